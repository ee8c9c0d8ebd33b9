#!/bin/sh
# decode-images: folders as arguments, lists from elsewhere, and what is said of many images.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
data=${REFERENCE_DIR:-tests/data}
tab=$(printf '\t')
list=$tmp/list

# found STREAM: prints its labels and the list of its classes.
found() {
    python '
tensors, meta = read(sys.argv[1])
print(*tensors["label"], meta.get("classes", "none"))' "$1"
}
piped() { # piped STDIN COMMAND...
    piped_in=$1
    shift
    "$@" <"$piped_in"
}
"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 8 -s 40
star=$tmp/shapes/star/000007.jpg

# Lists of which many or all files fail.
printf '%s\n' "$tmp/none-1.jpg" "$data/images/text.jpg" >"$list"
exits 'a list of which every file fails' 66 piped "$list" decode -s 32 -o "$tmp/failed"
says 'is an error that gives the first cause' \
    "decode-images: all 2 inputs failed; the first: $tmp/none-1.jpg: cannot open"
ok '... leaves no file' test ! -e "$tmp/failed"
exits 'a broken file alone' 65 decode -s 32 "$data/images/text.jpg" -o "$tmp/failed"
says 'is an error' "decode-images: the only input failed: $data/images/text.jpg: expected an image"
exits 'a part of which every file fails' 1 piped "$list" decode -s 32 --part 1/2 -o "$tmp/s"
ok '... becomes an empty stream' zstd -qt "$tmp/s"
seq -f "$tmp/none-%g.jpg" 100 >"$list" && echo "$star" >>"$list"
exits 'a list with a hundred missing files' 1 piped "$list" decode -s 32 -o "$tmp/s"
is '... names the first twenty' "$(grep -c 'skipped .*none-' "$tmp/err")" 20
says 'says that there are more' 'more inputs are skipped; --verbose names each'
says 'counts them all' '100 inputs were skipped'
exits 'a list with a hundred missing files, with --verbose,' 1 piped "$list" decode -v -s 32 -o "$tmp/s"
is '... names each' "$(grep -c 'skipped .*none-' "$tmp/err")" 100

# Folders.
tree=$tmp/tree
mkdir -p "$tree/b/deep" "$tree/a" "$tree/.hidden" "$tmp/bare/er"
for name in b/2.jpg b/deep/3.jpg a/1.jpg .hidden/4.jpg a/.5.jpg; do
    cp "$star" "$tree/$name"
done
ln -s .. "$tree/b/round"
exits 'a folder as argument' 0 decode -s 32 "$tree" -o "$tmp/s"
is '... is walked in the order of names, without hidden files' "$(found "$tmp/s")" '0 1 2 ["a","b","deep"]'
exits 'files and folders as arguments' 0 decode -s 32 "$star" "$tree/a" -o "$tmp/s"
is '... are taken in their order' "$(found "$tmp/s")" '1 0 ["a","star"]'
for part in 1 2; do
    decode -q -s 32 --part $part/2 "$tree" -o "$tmp/part-$part"
done
is 'the parts of a folder together hold its files' "$(found "$tmp/part-1") $(found "$tmp/part-2")" \
    '0 2 ["a","b","deep"] 1 ["a","b","deep"]'
exits 'a folder without files' 66 decode -s 32 "$tmp/bare" -o "$tmp/failed"
says 'is an error' 'decode-images: the list names only folders, no files'
ls -d "$tree"/* >"$list"
exits 'a list of folders alone' 66 piped "$list" decode -s 32 -o "$tmp/failed"
says 'is an error' 'decode-images: the list names only folders, no files'
exits 'a list of folders alone, with --no-labels,' 66 \
    piped "$list" decode --no-labels -s 32 -o "$tmp/failed"
says 'is an error' 'decode-images: the list names only folders, no files'
echo 'Pictures of stars.' >"$tree/README.txt"
exits 'a file beside the folders of classes' 1 decode -s 32 "$tree" -o "$tmp/s"
says 'makes a class, which is shown with its count' '4 files, 4 classes: a 1, b 1, deep 1, tree 1'
says 'is warned of' 'class 3, "tree", is empty: no image came from its 1 file'
for class in 01 02 03 04 05 06 07 08 09 10 11; do
    mkdir -p "$tmp/many/$class" && cp "$star" "$tmp/many/$class"
done
exits 'many classes' 0 decode -s 32 "$tmp/many" -o "$tmp/s"
says 'are not all shown' '11 files, 11 classes: 01 1, 02 1, 03 1, 04 1, 05 1, 06 1, 07 1, 08 1, 09 1, 10 1, ...'

# Lists from other systems, and with names of classes.
printf '\357\273\277%s\r\n%s\r\n' "$tree/b/2.jpg" "$star" >"$list"
printf '\357\273\277star\r\nb\r\n' >"$tmp/classes"
exits 'a list and a file of classes with CR LF and a byte order mark' 0 \
    piped "$list" decode -s 32 -c "$tmp/classes" -o "$tmp/s"
is '... are read like others' "$(found "$tmp/s")" '1 0 ["star","b"]'
printf '%s\t%s\n' "$star" 'great grey owl' "$star" ant "$star" 'great grey owl' >"$list"
exits 'lines with names of classes' 0 piped "$list" decode -s 32 -o "$tmp/s"
is '... are labelled by them' "$(found "$tmp/s")" '1 0 1 ["ant","great grey owl"]'
says 'are counted' '3 files, 2 classes: ant 1, great grey owl 2'
printf 'great grey owl\n' >"$tmp/classes"
exits 'lines with names of classes, and a file of classes,' 1 \
    piped "$list" decode -s 32 -c "$tmp/classes" -o "$tmp/s"
is '... are labelled by the file' "$(found "$tmp/s")" '0 0 ["great grey owl"]'
says 'are skipped if it lacks the name' "$star: its class, \"ant\", is not in $tmp/classes"
exits 'lines with names of classes, with --no-labels,' 0 \
    piped "$list" decode -s 32 --no-labels -o "$tmp/s"
is '... have the label -1' "$(found "$tmp/s")" '-1 -1 -1 []'
printf '%s\n' "$star${tab}ant" "$star" >"$list"
exits 'a line without the name of a class among others' 65 piped "$list" decode -s 32
says 'is named' "standard input: line 2: expected PATH<TAB>CLASS as in the first line, found \"$star\""

# What is said of images.
exits 'odd images' 0 decode --no-labels -s 300 "$data/images/exif-rotated.jpg" \
    "$data/images/rgba.png" "$star" "$star" tests/data/pictures/damaged.jpg -o "$tmp/s"
says 'are noted if rotated' "1 image is stored rotated, as EXIF says; --exif turns such images upright (the first: $data/images/exif-rotated.jpg)"
says 'are noted if transparent' '1 image is transparent, and shown opaque; --background puts a colour underneath'
says 'are noted if small' "images are smaller than the wanted size, and enlarged (the first: $data"
says 'are noted if damaged' '1 image is damaged, and some pixels are wrong; --strict refuses such files'
is '... are noted in one line for each kind' "$(wc -l <"$tmp/err")" 4
exits 'small images, with --verbose,' 0 decode -v --no-labels -s 300 "$star" "$star" -o "$tmp/s"
is '... are named each' "$(grep -c "$star is smaller" "$tmp/err")" 2
exits 'a rotated image, with --exif,' 0 decode --exif --no-labels -s 64 "$data/images/exif-rotated.jpg" -o "$tmp/s"
is '... is not noted' "$(cat "$tmp/err")" ''
for colour in '#ff8000' FF8000 white; do
    decode -q --no-labels --background "$colour" -s 64 "$data/images/rgba.png" -o "$tmp/$colour"
done
decode -q --no-labels -s 64 "$data/images/rgba.png" -o "$tmp/dropped"
ok '--background fills transparent pixels with the colour' python '
a, b, w, dropped = (read(tmp + name)[0]["image"] for name in ("#ff8000", "FF8000", "white", "dropped"))
assert np.array_equal(a, b) and not np.array_equal(a, dropped)
assert (w >= a).all() and (w[..., 0] == a[..., 0]).all() and (w[..., 2] > a[..., 2]).any()
'
exits 'an unknown colour' 64 decode --background mauve "$star"
says 'is refused' "--background: expected RRGGBB in hexadecimal, white, gray or black, found 'mauve'"
done_testing
