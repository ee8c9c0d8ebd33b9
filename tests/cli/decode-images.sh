#!/bin/sh
# decode-images: which files, in which order, with which labels; and what is skipped.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
data=${REFERENCE_DIR:-tests/data}
tab=$(printf '\t')

# labels STREAM: prints its labels on one line.
labels() {
    python 'print(*read(sys.argv[1])[0]["label"])' "$1"
}
# classes STREAM: prints the list of classes in its metadata, or "none".
classes() {
    python 'print(read(sys.argv[1])[1].get("classes", "none"))' "$1"
}
piped() { # piped STDIN COMMAND...
    piped_in=$1
    shift
    "$@" <"$piped_in"
}

# The reference images, through the whole program.
for size in 64 256; do
    ls "$data"/images/* >"$tmp/list"
    exits "the reference images at size $size" 1 piped "$tmp/list" decode-images -s $size -o "$tmp/s"
    ok '... are exact, in the order of the list' python "
import struct
doc = open('$data/images-expected.safetensors', 'rb').read()
n = struct.unpack('<Q', doc[:8])[0]
header = json.loads(doc[8:8 + n])
names = [line.split('/')[-1].strip() for line in open(tmp + '/list')]
names = [x for x in names if x not in ('empty.jpg', 'text.jpg', 'truncated.jpg')]
images = read(tmp + '/s')[0]['image']
assert len(images) == len(names) > 10
for name, image in zip(names, images):
    if name != 'gray16.png':
        a, b = header['%s:$size' % name]['data_offsets']
        assert image.tobytes() == doc[8 + n + a:8 + n + b], name
"
done
says 'name an empty file' "skipped $data/images/empty.jpg: an empty file"
says 'name a file that is no picture' "$data/images/text.jpg: expected an image file, found one that starts with"
says 'name a file that is cut short' "$data/images/truncated.jpg: Premature end of JPEG file"
says 'count what is skipped' 'decode-images: 3 inputs were skipped'

# Folders are classes.
ok 'pictures are drawn' "$BUILD/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 30 -s 40 || done_testing
find "$tmp/shapes" | sort -r >"$tmp/list" # folders too
exits 'folders as classes' 0 piped "$tmp/list" decode -s 32 -z 1 --no-pg -o "$tmp/all"
is '... print nothing but their names and counts' "$(cat "$tmp/err")" 'decode-images: 30 files, 10 classes: checkers 3, circle 3, cross 3, dots 3, gradient 3, ring 3, square 3, star 3, stripes 3, triangle 3'
is '... are numbered in the order of their names' "$(labels "$tmp/all")" \
    '9 9 9 8 8 8 7 7 7 6 6 6 5 5 5 4 4 4 3 3 3 2 2 2 1 1 1 0 0 0'
is '... are named in the metadata' "$(classes "$tmp/all")" \
    '["checkers","circle","cross","dots","gradient","ring","square","star","stripes","triangle"]'
ok 'the metadata has kind and size, but no count, as files may be skipped' python '
m = read(tmp + "/all")[1]
assert m["kind"] == "images" and m["image_size"] == "32" and "count" not in m and "pg.0" not in m
'
for threads in 1 5; do
    decode -q -@ $threads -s 32 -z 1 --no-pg <"$tmp/list" >"$tmp/threads"
    ok "$threads threads give the same bytes" cmp "$tmp/all" "$tmp/threads"
done
for part in 1 2 3 4; do
    decode -q -s 32 --part $part/4 <"$tmp/list" >"$tmp/part-$part"
done
ok 'the parts together are the whole' python '
lines = [line.strip() for line in open(tmp + "/list")]
whole, meta = read(tmp + "/all")
files = [i for i, line in enumerate(lines) if line.endswith(".jpg")]
seen = 0
for part in range(4):
    t, m = read(tmp + "/part-%d" % (part + 1))
    rows = [k for k, i in enumerate(files) if i % 4 == part]
    assert np.array_equal(t["image"], whole["image"][rows])
    assert np.array_equal(t["label"], whole["label"][rows]) and m["classes"] == meta["classes"]
    seen += len(rows)
assert seen == 30
'
exits 'paths as arguments' 0 decode -q -s 32 "$tmp/shapes/star/000007.jpg" \
    "$tmp/shapes/dots/000003.jpg" -o "$tmp/s"
is '... are labelled as those of a list' "$(labels "$tmp/s") $(classes "$tmp/s")" '1 0 ["dots","star"]'
mkdir -p "$tmp/train" "$tmp/val"
cp -r "$tmp/shapes/star" "$tmp/shapes/dots" "$tmp/train"
cp -r "$tmp/shapes/star" "$tmp/val"
exits 'two folders of one name' 0 decode -q -s 32 "$tmp"/val/*/* "$tmp"/train/*/* -o "$tmp/s"
is '... are one class' "$(labels "$tmp/s") $(classes "$tmp/s")" '1 1 1 0 0 0 1 1 1 ["dots","star"]'
in_folder() {
    (cd "$tmp/shapes/star" && decode -q -s 32 000007.jpg ./000017.jpg ..//star/000027.jpg)
}
in_folder >"$tmp/s"
is 'a path without a folder is of class "."' "$(labels "$tmp/s") $(classes "$tmp/s")" \
    '0 0 1 [".","star"]'
exits '--no-labels' 0 piped "$tmp/list" decode --no-labels -s 32 -o "$tmp/s"
is '... sets all labels to -1 and names no classes' "$(labels "$tmp/s" | tr -d ' ')$(classes "$tmp/s")" \
    "$(printf '%s' -1-1-1-1-1-1-1-1-1-1 -1-1-1-1-1-1-1-1-1-1 -1-1-1-1-1-1-1-1-1-1)[]"

# --classes
printf 'triangle\nstar\ndots\n' >"$tmp/classes"
sed -n '/star\|dots\|triangle/p' "$tmp/list" >"$tmp/some"
exits '--classes' 0 piped "$tmp/some" decode -s 32 --classes "$tmp/classes" \
    -o "$tmp/s"
is '... gives the order of the labels' "$(labels "$tmp/s") $(classes "$tmp/s")" \
    '0 0 0 1 1 1 2 2 2 ["triangle","star","dots"]'
exits 'a folder that --classes does not list' 1 piped "$tmp/list" decode -s 32 -c "$tmp/classes" \
    -o "$tmp/s"
says 'is skipped, each file by name' "square/000006.jpg: its folder's name, \"square\", is not in $tmp/classes"
says 'is counted by its files' '21 inputs were skipped'
flows() { # an endless list
    yes "$tmp/shapes/star/000007.jpg" | decode -q -s 256 --classes "$tmp/classes" 2>"$tmp/err" |
        head -c 3000000 >"$tmp/s"
    [ "$(wc -c <"$tmp/s")" = 3000000 ] && [ ! -s "$tmp/err" ]
}
ok 'with --classes images flow at once, and their reader may leave' flows
exits 'a missing file of classes' 66 decode -c "$tmp/none" "$tmp/shapes/star/000007.jpg"
printf 'a\nb\na\n' >"$tmp/twice"
exits 'a class that is listed twice' 65 decode -c "$tmp/twice" "$tmp/shapes/star/000007.jpg"
says 'is refused with its line' "$tmp/twice: line 3: \"a\" was already on line 1"
printf 'a\n\nb\n' >"$tmp/twice"
exits 'a class without a name' 65 decode -c "$tmp/twice" "$tmp/shapes/star/000007.jpg"
says 'is refused with its line' "$tmp/twice: line 2: expected a name, found nothing"
: >"$tmp/twice"
exits 'a file without classes' 65 decode -c "$tmp/twice" "$tmp/shapes/star/000007.jpg"

# PATH<TAB>LABEL
star=$tmp/shapes/star/000007.jpg
printf '%s\t%s\n' "$star" 7 "$star" -1 "$star" 1000000 >"$tmp/list"
exits 'lines with labels' 0 piped "$tmp/list" decode -s 32 -o "$tmp/s"
is '... keep their labels' "$(labels "$tmp/s") $(classes "$tmp/s")" '7 -1 1000000 none'
exits 'lines with labels beside --classes' 1 piped "$tmp/list" decode -s 32 -c "$tmp/classes" -o "$tmp/s"
says 'skip a label that has no class' "label 7, but $tmp/classes has 3 classes"
is '... keep the other labels' "$(labels "$tmp/s")" '-1'
printf '%s\n' "$star${tab}7" "$star" >"$tmp/list"
exits 'a line without its label' 65 piped "$tmp/list" decode -s 32
says 'is refused with its number' "standard input: line 2: expected PATH<TAB>LABEL as in the first line, found \"$star\""

# Odd names.
odd=$tmp/'odd name
 of two lines'
mkdir "$odd"
cp "$star" "$odd/a	b.jpg"
cp "$star" "$odd/-"
find "$odd" -print0 | sort -z >"$tmp/list"
exits '-0' 0 piped "$tmp/list" decode -0 -s 32 -o "$tmp/s"
is '... takes any name of a file and of a class' "$(labels "$tmp/s") $(classes "$tmp/s")" \
    '0 0 ["odd name\n of two lines"]'
exits 'a list with NUL, without -0' 65 piped "$tmp/list" decode -s 32
says 'is refused with a hint at -0' 'is -0 missing?'
dash() {
    (cd "$odd" && decode -q -s 32 ./- - --no-labels)
}
dash >"$tmp/s" </dev/null
is '"-" is a file of that name' "$(labels "$tmp/s")" '-1 -1'
bytes=$tmp/$(printf 'caf\351')
mkdir "$bytes" && cp "$star" "$bytes"
exits 'a folder name that is not UTF-8' 0 decode -q -s 32 "$bytes/000007.jpg" -o "$tmp/s"
is '... is spelt with ?' "$(classes "$tmp/s")" '["caf?"]'

# Broken and missing ones.
printf '\n%s\n' "$tmp/none.jpg" "$star" "$data/images/text.jpg" >"$tmp/list"
exits 'a list with missing and foreign files' 1 piped "$tmp/list" decode -s 32 -o "$tmp/s"
says 'names the missing file' "skipped $tmp/none.jpg: cannot open: No such file or directory"
says 'counts two' '2 inputs were skipped'
is '... gives the images of the others' "$(labels "$tmp/s")" 1
exits '--strict stops at a missing file' 66 piped "$tmp/list" decode --strict -s 32 -o "$tmp/strict"
ok '... leaves no file' test ! -e "$tmp/strict"
exits '--strict stops at a broken file' 65 decode --strict -s 32 "$star" \
    "$data/images/truncated.jpg"
says 'names it' "decode-images: $data/images/truncated.jpg: Premature end of JPEG file"
mkfifo "$tmp/fifo.jpg"
exits 'a FIFO' 1 decode -s 32 "$tmp/fifo.jpg" "$star" -o "$tmp/s"
says 'is skipped, not waited for' "$tmp/fifo.jpg: expected a regular file"
if [ "$(id -u)" = 0 ]; then
    skip 'an unreadable file is skipped' 'root reads all'
else
    cp "$star" "$tmp/secret.jpg" && chmod 0 "$tmp/secret.jpg"
    exits 'an unreadable file is skipped' 1 decode -s 32 "$tmp/secret.jpg" "$star"
fi
: >"$tmp/list"
exits 'an empty list' 0 piped "$tmp/list" decode -s 32 -o "$tmp/s"
ok '... becomes an empty stream' zstd -qt "$tmp/s"
exits 'an output in no folder' 73 decode -s 32 -o "$tmp/no/where" "$star"
exits 'a size of 7' 64 decode -s 7 "$star"
exits 'part 0' 64 decode --part 0/3 "$star"

exits '--exif' 0 decode -q --exif -s 64 "$data/images/exif-rotated.jpg" -o "$tmp/turned"
exits 'without --exif' 0 decode -q -s 64 "$data/images/exif-rotated.jpg" -o "$tmp/stored"
ok '--exif turns the image' python '
a = read(tmp + "/turned")[0]["image"][0].astype(int)
b = np.rot90(read(tmp + "/stored")[0]["image"][0], -1).astype(int)
assert abs(a - b).mean() < 8 and abs(a - np.rot90(b)).mean() > 8
'
done_testing
