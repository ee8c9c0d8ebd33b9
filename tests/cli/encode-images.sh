#!/bin/sh
# encode-images: one file for each image, with what is known of it, and nothing overwritten.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 12 -s 40
decode -q -s 24 "$tmp/shapes" -o "$tmp/s"
pixels() { # pixels A B [MOST]: the images differ by MOST levels on average, by default none
    python 'a, b = (read(p)[0]["image"].astype(int) for p in sys.argv[1:3])
assert a.shape == b.shape and abs(a - b).mean() <= float((sys.argv[3:] or [0])[0]), abs(a - b).mean()' "$@"
}
exits 'a stream into a new folder' 0 encode-images "$tmp/a/png" "$tmp/s"
is '... gives a numbered PNG for each image' "$(cd "$tmp/a/png" && echo *)" "$(seq -s ' ' -f %06g.png 0 11)"
decode -q -s 24 --no-labels "$tmp/a/png" -o "$tmp/back"
ok '... keeps the pixels' pixels "$tmp/s" "$tmp/back"
python 'def texts(path):
    data, at = open(path, "rb").read(), 8
    while at < len(data):
        size, kind = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        if kind in (b"tEXt", b"iTXt"):
            key, value = data[at + 8:at + 8 + size].split(b"\0", 1)
            yield key.decode(), value[4 if kind == b"iTXt" else 0:].decode()
        at += size + 12
found = dict(texts(tmp + "a/png/000011.png"))
assert found["label"] == "9" and found["class"] == "triangle" and found["Software"].startswith("dit-tools "), found
assert found["history"].startswith("decode-images ") and "\n" not in found["history"], found'
ok '... says the class and the history in each' [ $? = 0 ]
exits 'the same again' 73 encode-images "$tmp/a/png" "$tmp/s"
says 'is refused' 'png already exists; --force replaces it'
printf x >"$tmp/a/png/000003.png"
exits 'the same with --force' 0 encode-images -f "$tmp/a/png" "$tmp/s"
decode -q -s 24 --no-labels "$tmp/a/png" -o "$tmp/back"
ok '... replaces the files' pixels "$tmp/s" "$tmp/back"

exits 'a stream into folders of classes' 0 encode-images -b "$tmp/b" "$tmp/s"
decode -q -s 24 --no-pg "$tmp/b" -o "$tmp/back"
python '(a, ma), (b, mb) = read(tmp + "s"), read(tmp + "back")
assert ma["classes"] == mb["classes"] and sorted(a["label"]) == sorted(b["label"])
assert sorted(map(bytes, a["image"])) == sorted(map(bytes, b["image"]))'
ok '... decodes to the same images of the same classes' [ $? = 0 ]
exits 'a stream into JPEG files' 0 encode-images --format jpeg --quality 95 "$tmp/j" "$tmp/s"
decode -q -s 24 --no-labels "$tmp/j" -o "$tmp/back"
ok '... gives nearly the same pixels' pixels "$tmp/s" "$tmp/back" 8
encode-images --format jpeg --quality 5 "$tmp/j5" <"$tmp/s"
ok 'a lower quality takes less' [ "$(cat "$tmp/j5"/*.jpg | wc -c)" -lt "$(cat "$tmp/j"/*.jpg | wc -c)" ]

# Names that a folder cannot have, and labels without a name.
"$BUILD/tests/tools/make-stream" images 5 8 3 'classes=["../up",".hid","caf\u00e9","a\u001b[1m"]' >"$tmp/evil"
exits 'classes whose names lead elsewhere' 0 encode-images -b "$tmp/jail/in" "$tmp/evil"
is '... are numbered' "$(cd "$tmp/jail" && find . -type f | LC_ALL=C sort | tr '\n' ' ')" \
    './in/000000/000000.png ./in/000001/000001.png ./in/000003/000003.png ./in/000004/000004.png ./in/café/000002.png '
decode -q -s 24 --no-labels "$tmp/shapes/star" -o "$tmp/bare"
exits 'images without labels' 0 encode-images -b "$tmp/none" "$tmp/bare"
is '... have a folder of their own' "$(cd "$tmp/none" && echo */*)" 'unlabelled/000000.png'
head -c 700 "$tmp/s" >"$tmp/cut"
exits 'a stream that is cut short' 65 encode-images "$tmp/cut-out" "$tmp/cut"
exits 'no folder' 64 encode-images
says 'is an error' 'expected a FOLDER for the pictures'
touch "$tmp/file"
exits 'a folder that cannot be made' 73 encode-images "$tmp/file/x" "$tmp/s"
is 'no temporary file is left' "$(find "$tmp" -name '*.tmp')" ''
done_testing
