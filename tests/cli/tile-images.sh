#!/bin/sh
# tile-images: which images stand where on the sheet. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

# The sheet comes back through decode-images, which crops only what isn't square already; so all
# sheets here are made square by their columns and rows.
# sheet SIDE CODE: reads $tmp/out as `s`, the stream as `t`; tile(row, column) cuts one out.
sheet() {
    decode-images -q --no-labels -s "$1" "$tmp/out" -o "$tmp/back" || return
    python "
t = read('$tmp/stream')[0]
s = read('$tmp/back')[0]['image'][0]
def tile(row, column, gap=2, side=16):
    y, x = row * (side + gap), column * (side + gap)
    return s[y:y + side, x:x + side]
def empty(row, column):
    return (tile(row, column) == 255).all()
$2"
}
size() { # of the PNG in $tmp/out
    od -An -tu1 -j16 -N8 "$tmp/out" | awk '{ print $3 * 256 + $4 "x" $7 * 256 + $8 }'
}

"$BUILD/tests/tools/make-stream" images 100 16 7 >"$tmp/stream"
exits 'a stream of 100 images' 0 tile-images "$tmp/stream"
ok '... shows the first 64, 8 x 8' sheet 142 '
for i in range(64):
    assert np.array_equal(tile(i // 8, i % 8), t["image"][i]), i
assert (s[16:18] == 255).all() and (s[:, 16:18] == 255).all()
'
says 'tells how many it leaves out' 'tile-images: 64 of 100 images are on the sheet; --count N shows more'
exits '--columns and --rows' 0 tile-images -c 3 -r 3 -g 0 "$tmp/stream"
ok '... limit what is shown' sheet 48 '
for i in range(9):
    assert np.array_equal(tile(i // 3, i % 3, 0), t["image"][i]), i
'
exits '--count' 0 tile-images -c 4 -n 14 "$tmp/stream"
is '... is not told what it asks for' "$(cat "$tmp/err")" ''
ok '... leaves the rest of the last row empty' sheet 70 '
for i in range(14):
    assert np.array_equal(tile(i // 4, i % 4), t["image"][i]), i
assert empty(3, 2) and empty(3, 3)
'
exits '--by-class' 0 tile-images --by-class -c 10 "$tmp/stream"
ok '... makes a row for every label' sheet 178 '
for i in range(100):
    assert np.array_equal(tile(i % 10, i // 10), t["image"][i]), i
'
exits '--by-class with --rows' 0 tile-images -b -c 4 -r 4 "$tmp/stream"
ok '... shows the lowest labels' sheet 70 '
for i in range(40):
    if i % 10 < 4:
        assert np.array_equal(tile(i % 10, i // 10), t["image"][i]), i
'
exits '--by-class with --names' 0 tile-images -b --names -c 8 -r 10 "$tmp/stream"
is '... is wider by the longest name' "$(size)" 150x178
exits '--names without --by-class' 64 tile-images --names "$tmp/stream"
"$BUILD/tests/tools/make-stream" images 100 16 7 \
    'classes=["a","b","c","d","e","f","g","h","an owl","a name of more than 24 characters"]' >"$tmp/named"
exits 'a name of more than 24 characters' 0 tile-images -b --names -c 1 "$tmp/named"
is '... is cut' "$(size)" 162x178
exits '... but not where its row is left out' 0 tile-images -b --names -c 1 -r 9 "$tmp/named"
is '... and the sheet is narrower' "$(size)" 54x160
"$BUILD/tests/tools/make-stream" images 8 4 8 >"$tmp/small"
exits 'rows of less than 8 pixels' 0 tile-images -b --names -c 1 -g 0 "$tmp/small"
is '... have no names' "$(size)" 4x32
exits '--scale' 0 tile-images -c 2 -r 2 -s 3 "$tmp/stream"
ok '... repeats pixels' sheet 98 '
for i in range(4):
    assert np.array_equal(tile(i // 2, i % 2, 2, 48)[::3, ::3], t["image"][i]), i
    assert np.array_equal(tile(i // 2, i % 2, 2, 48)[2::3, 1::3], t["image"][i]), i
'
exits 'few images' 0 tile-images -n 3 "$tmp/stream"
is '... make a small sheet' "$(size)" 52x16
exits 'a sheet in a named file' 0 tile-images "$tmp/stream" -o "$tmp/out.png"
exits 'a sheet on standard output' 0 tile-images "$tmp/stream"
ok '... is that of the named file' cmp "$tmp/out" "$tmp/out.png"

head -c 20000 "$tmp/stream" >"$tmp/cut"
exits 'a stream cut short' 65 tile-images -n 1 "$tmp/cut" -o "$tmp/cut.png"
ok '... leaves no file' test ! -e "$tmp/cut.png"
: >"$tmp/list"
decode-images -q -s 16 <"$tmp/list" >"$tmp/empty"
exits 'a stream without images' 65 tile-images "$tmp/empty"
says 'is refused by name' "$tmp/empty: expected images, found none"
"$BUILD/tests/tools/make-stream" latents 5 16 5 >"$tmp/latents"
exits 'a stream of latents' 65 tile-images "$tmp/latents"
exits 'a sheet that is too large' 64 tile-images -c 65536 -s 256 "$tmp/stream"
says 'is refused with the limit' 'the sheet would be larger than 268435456 pixels'
exits '--count with --by-class' 64 tile-images -b -n 3 "$tmp/stream"
exits 'a missing file' 66 tile-images "$tmp/none"
done_testing
