#!/bin/sh
# npz-pack and npz-unpack: what NumPy and zip programs read back, and the way back. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
mkdir "$tmp/spool"
export TMPDIR="$tmp/spool"

# same STREAM NPZ ARRAYS: the archive holds these arrays, with the contents of the stream.
same() {
    python '
t, m = read(sys.argv[1])
z = np.load(sys.argv[2])
assert zipfile.ZipFile(sys.argv[2]).testzip() is None
assert " ".join(z.files) == sys.argv[3], z.files
assert z["arr_0"].dtype == np.uint8 and np.array_equal(z["arr_0"], t["image"]), z["arr_0"].shape
if "arr_1" in z.files:
    assert z["arr_1"].dtype == np.int64 and np.array_equal(z["arr_1"], t["label"])
' "$@"
}
by_pipe() { # by_pipe ARGUMENT...: npz-pack with a pipe as its standard output; returns its status
    {
        npz-pack "$@"
        echo $? >"$tmp/status"
    } | cat >"$tmp/pipe.npz"
    return "$(cat "$tmp/status")"
}

"$BUILD/tests/tools/make-stream" images 50 16 7 >"$tmp/counted"
"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 20 -s 24
find "$tmp/shapes" | decode-images -q -s 16 -o "$tmp/uncounted"
: >"$tmp/list"
decode-images -q -s 16 <"$tmp/list" >"$tmp/empty"
for stream in counted uncounted empty; do
    exits "stream $stream to a named file" 0 npz-pack "$tmp/$stream" -o "$tmp/a.npz"
    ok "... is packed whole" same "$tmp/$stream" "$tmp/a.npz" arr_0
    exits "stream $stream to a pipe" 0 by_pipe "$tmp/$stream"
    ok "... is packed whole" same "$tmp/$stream" "$tmp/pipe.npz" arr_0
    exits "stream $stream to redirected output with labels" 0 npz-pack --labels "$tmp/$stream"
    ok "... is packed whole" same "$tmp/$stream" "$tmp/out" 'arr_0 arr_1'
    exits "stream $stream to a named file with labels" 0 npz-pack -l "$tmp/$stream" -o "$tmp/b.npz"
    ok "... is packed whole" same "$tmp/$stream" "$tmp/b.npz" 'arr_0 arr_1'
    if command -v unzip >/dev/null; then
        ok "unzip -t accepts stream $stream with its sizes in front" unzip -tqq "$tmp/b.npz"
        ok "unzip -t accepts stream $stream with its sizes behind" unzip -tqq "$tmp/pipe.npz"
    else
        skip "unzip -t accepts stream $stream" 'no unzip here'
    fi
done
exits 'an archive of no images' 0 npz-unpack "$tmp/b.npz" -o "$tmp/back"
ok '... is unpacked to an empty stream' zstd -qt "$tmp/back"
for stream in counted uncounted; do
    npz-pack -q -l "$tmp/$stream" -o "$tmp/b.npz"
    exits "stream $stream, packed with labels," 0 npz-unpack "$tmp/b.npz" -o "$tmp/back"
    ok '... is unpacked whole' same "$tmp/back" "$tmp/b.npz" 'arr_0 arr_1'
done
python 'images = np.arange(2 * 4 * 6 * 3, dtype="u1").reshape(2, 4, 6, 3)
np.savez_compressed(tmp + "c.npz", arr_0=images, arr_1=np.array([7, -1], "i4"))
np.savez(tmp + "odd.npz", images, np.zeros(2))
np.savez(tmp + "grey.npz", images[..., 0])'
exits 'a compressed archive with narrow labels' 0 npz-unpack "$tmp/c.npz" -o "$tmp/back"
ok '... is unpacked whole' python 't, m = read(tmp + "back")
assert list(t["label"]) == [7, -1] and np.array_equal(t["image"], np.load(tmp + "c.npz")["arr_0"]) and m["count"] == "2"'
exits 'an arr_1 that holds no labels' 65 npz-unpack "$tmp/odd.npz" -o "$tmp/failed"
says 'is refused' 'odd.npz: expected labels in arr_1, I64 or I32 [2], found F64 [2]; --no-labels leaves them out'
exits '... is left out by --no-labels' 0 npz-unpack --no-labels "$tmp/odd.npz" -o "$tmp/back"
exits 'an archive of other pictures' 65 npz-unpack "$tmp/grey.npz" -o "$tmp/failed"
says 'is refused' 'grey.npz: expected arr_0 of U8 [N, N, N, 3], found U8 [2, 4, 6]'
head -c 2000 "$tmp/b.npz" >"$tmp/half.npz"
exits 'an archive that is cut short' 65 npz-unpack "$tmp/half.npz" -o "$tmp/failed"
ok 'no archive that is refused leaves a stream' test ! -e "$tmp/failed"
is 'no temporary file of packing is left' "$(ls "$tmp/spool")" ''

cat "$tmp/counted" "$tmp/counted" >"$tmp/twice"
exits 'streams joined by cat' 0 npz-pack "$tmp/twice"
ok '... are packed whole into a file' same "$tmp/twice" "$tmp/out" arr_0
exits 'streams joined by cat to a pipe' 65 by_pipe "$tmp/twice"
says 'are refused, as their number is known too late' 'expected 50 images, as the first stream states, found 100'
appended() {
    npz-pack "$tmp/uncounted" >>"$tmp/appended.npz"
}
exits 'an output that is appended to' 0 appended
ok '... is not rewritten' same "$tmp/uncounted" "$tmp/appended.npz" arr_0
after_header() {
    { echo 'self-extracting'; npz-pack -l "$tmp/uncounted"; } >"$tmp/after.npz"
}
exits 'an output that others have begun' 0 after_header
tail -c +17 "$tmp/after.npz" >"$tmp/rest.npz"
ok '... is rewritten in the right place' same "$tmp/uncounted" "$tmp/rest.npz" 'arr_0 arr_1'
is 'no temporary file of odd outputs is left' "$(ls "$tmp/spool")" ''

head -c 3000 "$tmp/uncounted" >"$tmp/cut"
exits 'a stream cut short' 65 npz-pack "$tmp/cut" -o "$tmp/cut.npz"
ok '... leaves no file' test ! -e "$tmp/cut.npz"
"$BUILD/tests/tools/make-stream" latents 5 16 5 >"$tmp/latents"
exits 'a stream of latents' 65 npz-pack "$tmp/latents" -o "$tmp/c.npz"
says 'is refused for its missing tensor' "$tmp/latents: expected a tensor \"image\" of U8"
exits 'a missing file' 66 npz-pack "$tmp/none" -o "$tmp/c.npz"
exits 'two inputs' 64 npz-pack "$tmp/counted" "$tmp/counted" -o "$tmp/c.npz"
exits 'an output in a missing folder' 73 npz-pack "$tmp/counted" -o "$tmp/no/where.npz"
TMPDIR=$tmp/no
exits 'a missing temporary folder' 73 by_pipe "$tmp/uncounted"
done_testing
