#!/bin/sh
# tile-images --show: what terminals get, decoded back to pixels. SPDX-License-Identifier: MIT
. tests/tap.sh

"$BUILD/tests/tools/make-stream" images 12 15 3 >"$tmp/stream"
tile() {
    tile-images -q -c 4 -r 3 -g 1 "$@" "$tmp/stream"
}
tile -o "$tmp/sheet.png"
python_prelude="
import terminal
from io import BytesIO
t = read('$tmp/stream')[0]['image']
s = np.full((47, 63, 3), 255, 'u1') # the sheet
for i in range(12):
    s[i // 4 * 16:i // 4 * 16 + 15, i % 4 * 16:i % 4 * 16 + 15] = t[i]
def shown():
    return open(tmp + 'out', 'rb').read()
def on(answer, columns=80, width=0, **environment):
    os.environ.update(TERM='xterm', **environment)
    for name in 'TMUX', 'KITTY_WINDOW_ID', 'TERM_PROGRAM':
        if name not in environment: os.environ.pop(name, None)
    return terminal.run(['tile-images', '-q', '-c', '4', '-r', '3', '-g', '1', '--show', tmp + 'stream'],
                        answer, columns, width)
def shrunk(width): # the means of boxes, rounded
    height = (len(s) * width + len(s[0]) // 2) // len(s[0])
    ys, xs = ([i * a // b for i in range(b + 1)] for a, b in ((len(s), height), (len(s[0]), width)))
    boxes = [[s[a:b, c:d].reshape(-1, 3).astype(int) for c, d in zip(xs, xs[1:])] for a, b in zip(ys, ys[1:])]
    return [[(box.sum(0) + len(box) // 2) // len(box) for box in row] for row in boxes]
"
exits '--show-as blocks' 0 tile --show-as blocks
ok '... is the sheet, pixel by pixel' python 'assert np.array_equal(terminal.blocks(shown()), s)'
exits '--show where standard output is no terminal' 0 tile --show
ok '... is blocks' python 'assert np.array_equal(terminal.blocks(shown()), s)'
exits '--show-as kitty' 0 tile --show-as kitty
ok '... is the PNG' python '
png, keys = terminal.kitty(shown())
assert png == open(tmp + "sheet.png", "rb").read()
assert keys == {"a": "T", "f": "100", "q": "2", "m": keys["m"]}, keys'
exits '--show with --output' 0 tile --show -o "$tmp/both.png"
ok '... writes the PNG, too' cmp "$tmp/both.png" "$tmp/sheet.png"
exits '--show-as sixel' "$([ -s "$BUILD/sixel" ] && grep -q . "$BUILD/sixel" && echo 0 || echo 64)" \
    tile --show-as sixel
if grep -q . "$BUILD/sixel"; then
    ok '... is the sheet, but for rounding to percents and to 256 colours' python '
d = terminal.sixels(shown()) - s
assert d.shape == s.shape and np.abs(d).mean() < 12, np.abs(d).mean()'
else
    says 'says what lacks' 'built without libsixel'
fi
exits '--show-as ascii' 64 tile --show-as ascii

ok 'a terminal of fewer columns gets a narrower picture' python '
assert np.array_equal(terminal.blocks(on(b"\x1b[?62;22c", 40)), shrunk(40))'
ok 'a terminal that answers for kitty gets its protocol' python '
png, keys = terminal.kitty(on(b"\x1b_Gi=31;OK\x1b\\\x1b[6;16;8t\x1b[?62c"))
assert png == open(tmp + "sheet.png", "rb").read() and "c" not in keys'
ok '... and fits a picture wider than itself' python '
assert terminal.kitty(on(b"\x1b_Gi=31;OK\x1b\\\x1b[6;16;5t\x1b[?62c", 12))[1]["c"] == "12"
assert terminal.kitty(on(b"\x1b_Gi=31;OK\x1b\\\x1b[?62c", 12, 12 * 4))[1]["c"] == "12"
assert "c" not in terminal.kitty(on(b"\x1b_Gi=31;OK\x1b\\\x1b[?62c", 12, 12 * 6))[1]'
ok 'a terminal that answers for sixels gets them, else blocks' python '
sixel = on(b"\x1b[?62;4;22c").startswith(b"\x1bP")
assert sixel == (open("'"$BUILD"'/sixel").read() != "\n")
assert on(b"\x1b[?64;22c").startswith(b"\x1b[38;2")'
ok 'a terminal that does not answer is told by its environment' python '
assert on(b"", KITTY_WINDOW_ID="1").startswith(b"\x1b_G")
assert on(b"", KITTY_WINDOW_ID="1", TMUX="/tmp/tmux").startswith(b"\x1b[38;2")'
done_testing
