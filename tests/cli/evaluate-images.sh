#!/bin/sh
# evaluate-images: sets, references, what is merged, what is refused. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_INCEPTION

network=$BUILD/tests/tools/inception-network
"$network" make 4 "$tmp/net.safetensors"
export DIT_INCEPTION="$tmp/net.safetensors"
"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 40 -s 32
find "$tmp/shapes" -type f | sort | decode-images -q -s 32 --no-labels -o "$tmp/all"
tstream-cat -q --part 1/2 "$tmp/all" -o "$tmp/one"
tstream-cat -q --part 2/2 "$tmp/all" -o "$tmp/two"
npz-pack -q "$tmp/two" -o "$tmp/two.npz"

# figure KEY FILE: its value there.
figure() {
    sed -n "s/^  \"$1\": \(.*[^,]\),\{0,1\}\$/\1/p" "$2"
}
# near A B LIMIT
near() {
    awk "BEGIN { d = $1 - $2; exit !(d <= $3 && -d <= $3) }"
}

exits 'a stream against an archive' 0 evaluate-images -r "$tmp/two.npz" "$tmp/one" --save "$tmp/one.npz"
cp "$tmp/out" "$tmp/figures"
for key in fid sfid inception_score precision recall kid images reference_images; do
    ok "... has a value of $key" [ -n "$(figure $key "$tmp/figures")" ]
done
says 'tells people, too' 'evaluate-images: FID '
says 'warns of a covariance without full rank' 'images are too few for 256 features'
is '... counts the images' "$(figure images "$tmp/figures")" "$(dit-info "$tmp/one" | sed -n 's/.*records *\([0-9]*\).*/\1/p' | head -n 1)"

exits 'the features that were saved' 0 evaluate-images -r "$tmp/two.npz" "$tmp/one.npz" -o "$tmp/again"
for key in fid sfid inception_score precision recall; do
    ok "... give the same $key" near "$(figure $key "$tmp/again")" "$(figure $key "$tmp/figures")" 1e-9
done
exits 'a set against itself without a network' 0 \
    env -u DIT_INCEPTION evaluate-images -m fid,precision -r "$tmp/one.npz" "$tmp/one.npz"
ok '... is at 0' near "$(figure fid "$tmp/out")" 0 1e-6
ok '... and all within its own manifold' near "$(figure precision "$tmp/out")" 1 0

for part in 1 2 3; do
    evaluate-images -q -m fid --save "$tmp/part$part.npz" -r "$tmp/two.npz" --part $part/3 "$tmp/one" >"$tmp/null" 2>&1
done
exits 'three parts' 0 evaluate-images -m fid -r "$tmp/two.npz" "$tmp"/part[123].npz
ok '... merge into the FID of the whole' near "$(figure fid "$tmp/out")" "$(figure fid "$tmp/figures")" 1e-9
exits 'images after statistics' 0 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/part1.npz" "$tmp/two.npz"
ok '... are counted' [ "$(figure images "$tmp/out")" -gt "$(figure reference_images "$tmp/out")" ]

evaluate-images -q --save "$tmp/two-statistics.npz" "$tmp/two" >"$tmp/null" 2>&1
count=$(figure images "$tmp/figures")
evaluate-images -q --part "1/$count" --save "$tmp/single.npz" "$tmp/one" >"$tmp/null" 2>&1
exits 'KID of two whole sets' 0 evaluate-images -m kid -r "$tmp/one.npz" "$tmp/one.npz"
is '... takes one subset and has no deviation' "$(figure kid_subsets "$tmp/out") $(figure kid_std "$tmp/out")" '1 '
tstream-cat -q "$tmp/one" "$tmp/two" | evaluate-images -q --save "$tmp/both.npz" >"$tmp/null" 2>&1
exits 'KID of sets of different sizes' 0 evaluate-images -m kid -r "$tmp/one.npz" "$tmp/both.npz"
ok '... has a deviation' [ -n "$(figure kid_std "$tmp/out")" ]
exits 'one image' 0 env -u DIT_INCEPTION evaluate-images -r "$tmp/two-statistics.npz" "$tmp/single.npz"
says 'is told of in the singular' "$tmp/single.npz: 1 image is too few for 256 features"
says 'gets a note about the precision' "no precision: expected at least 4 images, found 1 in $tmp/single.npz"
says 'gets a note about the Inception Score' 'no inception-score: it needs the Inception network (--inception)'

python '
a = dict(np.load(sys.argv[1]))
np.savez(sys.argv[2], **{k: a[k] for k in ("mu", "sigma", "count")})
np.savez(sys.argv[3], **{**a, "features": a["features"][:9]})' "$tmp/one.npz" "$tmp/lean.npz" "$tmp/few.npz"
exits 'a set of which some images have no features' 0 \
    evaluate-images -r "$tmp/two.npz" "$tmp/one.npz" "$tmp/lean.npz" --save "$tmp/merged.npz"
for key in sfid inception_score precision recall kid; do
    is "... has no value of $key" "$(figure $key "$tmp/out")" ''
done
ok '... has a FID' [ -n "$(figure fid "$tmp/out")" ]
for name in sfid inception-score precision recall kid; do
    is "... gets one note about $name" "$(grep -c "no $name: $tmp/lean.npz lacks the " "$tmp/err")" 1
done
is '... saves only what is of all images' "$(python 'print(*sorted(np.load(sys.argv[1])))' "$tmp/merged.npz")" \
    'count image_size mu sigma'
says 'tells that no features are saved' "$tmp/merged.npz: no features are saved, as $tmp/lean.npz lacks"
for name in sfid inception-score precision recall kid; do
    exits "its $name by name" 65 evaluate-images -m $name -r "$tmp/two.npz" "$tmp/one.npz" "$tmp/lean.npz"
    says 'is refused' "$name can't be computed: $tmp/lean.npz lacks the "
done
exits 'features of fewer images than are counted' 65 \
    evaluate-images -m kid -r "$tmp/two.npz" "$tmp/few.npz" --save "$tmp/refused.npz"
says 'are refused' "kid can't be computed: $tmp/few.npz lacks the features of all its images"

ok '... is refused before anything is saved' [ ! -e "$tmp/refused.npz" ]

# Statistics of 40 images, of which the archive holds only some, and statistics of no image at all.
python '
a, b = np.load(sys.argv[1]), np.load(sys.argv[2])["arr_0"]
s = {k: a[k] for k in ("mu", "sigma")}
np.savez(sys.argv[3], arr_0=b[:9], count=a["count"], **s)
np.savez(sys.argv[4], arr_0=b, **{k: 0 * s[k] for k in s})' \
    "$tmp/one.npz" "$tmp/two.npz" "$tmp/some.npz" "$tmp/zero.npz"
exits 'an archive with some of the images that its statistics count' 0 evaluate-images -r "$tmp/two.npz" "$tmp/some.npz"
is '... is of those that are counted' "$(figure images "$tmp/out")" "$count"
for name in sfid inception-score precision recall kid; do
    says "gets a note about $name" "no $name: $tmp/some.npz lacks the "
done
exits 'a part of images without statistics' 0 evaluate-images -m fid,sfid -r "$tmp/one.npz" --part 2/3 "$tmp/two.npz"
cp "$tmp/out" "$tmp/figures"
exits 'a part of images with statistics' 0 evaluate-images -m fid,sfid -r "$tmp/one.npz" --part 2/3 "$tmp/zero.npz"
is '... is of those images alone' "$(figure fid "$tmp/out") $(figure sfid "$tmp/out")" \
    "$(figure fid "$tmp/figures") $(figure sfid "$tmp/figures")"

exits 'no network for images' 64 env -u DIT_INCEPTION evaluate-images -m fid -r "$tmp/one.npz" "$tmp/two.npz"
says 'names the option' "$tmp/two.npz: its images need the Inception network: --inception"
exits 'no reference' 64 evaluate-images -m fid "$tmp/one"
says 'names the option' 'these --metrics need a --reference'
exits 'statistics saved without a reference' 0 evaluate-images -m fid,sfid --save "$tmp/lone.npz" "$tmp/one"
is '... hold no features' "$(python 'print(*sorted(np.load(sys.argv[1])))' "$tmp/lone.npz")" \
    'count image_size mu mu_s sigma sigma_s'
cp "$tmp/one.npz" "$tmp/kept.npz"
ln "$tmp/kept.npz" "$tmp/linked.npz"
for output in --save --output; do
    exits "$output into an input" 64 evaluate-images -m fid -r "$tmp/two.npz" "$tmp/kept.npz" $output "$tmp/linked.npz"
    says 'is refused' "$output: $tmp/linked.npz is an input, too"
    exits "$output into the reference" 64 evaluate-images -m fid -r "$tmp/kept.npz" "$tmp/one" $output "$tmp/./kept.npz"
    says 'is refused' "$output: $tmp/./kept.npz is the reference, too"
done
ok '... leaves the file' cmp -s "$tmp/one.npz" "$tmp/kept.npz"
exits 'statistics and figures into one file' 64 evaluate-images -m fid -r "$tmp/two.npz" "$tmp/one" --save "$tmp/new" -o "$tmp/./new"
says 'are refused' "--save: $tmp/new is where the figures go, too"
ok '... leave no file' [ ! -e "$tmp/new" ]
exits 'statistics into standard output, as the figures' 64 evaluate-images -m fid -r "$tmp/two.npz" "$tmp/one" --save -
exits 'outputs into /dev/null' 0 evaluate-images -m fid -r "$tmp/two.npz" "$tmp/one.npz" --save /dev/null -o /dev/null

exits 'an unknown figure' 64 evaluate-images -m fid,fud "$tmp/one"
says 'is named' "found 'fud'"
exits 'a file that is no stream' 65 evaluate-images -r "$tmp/one.npz" "$tmp/net.safetensors"
exits 'a missing reference' 66 evaluate-images -r "$tmp/none" "$tmp/one"

"$network" make 4 "$tmp/bare.safetensors" bare
exits 'weights without the last layer' 0 evaluate-images --inception "$tmp/bare.safetensors" -r "$tmp/one.npz" "$tmp/two.npz"
says 'gives no Inception Score' 'has no last layer (fc.weight): no Inception Score'
is '... in one note' "$(grep -ci 'no inception.score' "$tmp/err")" 1
is '... which is left out' "$(figure inception_score "$tmp/out")" ''
exits 'its Inception Score by name' 65 evaluate-images --inception "$tmp/bare.safetensors" -m inception-score "$tmp/one"
"$network" make 4 "$tmp/other.safetensors" other
exits "torchvision's network" 65 evaluate-images --inception "$tmp/other.safetensors" -m inception-score "$tmp/one"
says 'is refused by name' "this is torchvision's Inception, another network"
exits 'weights of something else' 65 evaluate-images --inception tests/data/dit-a.safetensors -m inception-score "$tmp/one"
says 'is not an Inception network' 'not an Inception network: it has no tensor'
head -c 100000 "$tmp/net.safetensors" >"$tmp/cut.safetensors"
exits 'weights that are cut' 65 evaluate-images --inception "$tmp/cut.safetensors" -m inception-score "$tmp/one"

exits 'weights for PyTorch' 0 convert-weights -q "$tmp/net.safetensors" "$tmp/net.pth"
exits '... and back' 0 convert-weights -q "$tmp/net.pth" "$tmp/back.safetensors"
ok '... are the same' cmp -s "$tmp/net.safetensors" "$tmp/back.safetensors"
evaluate-images -q -m fid -r "$tmp/one.npz" "$tmp/two.npz" >"$tmp/plain" 2>"$tmp/null"
exits 'weights of PyTorch' 0 evaluate-images --inception "$tmp/net.pth" -m fid -r "$tmp/one.npz" "$tmp/two.npz"
is '... compute what those of safetensors do' "$(figure fid "$tmp/out")" "$(figure fid "$tmp/plain")"
exits 'names of another model' 64 convert-weights --names diffusers "$tmp/net.safetensors" "$tmp/x.pth"
says 'are refused' 'is an Inception network: it has one set of weights'

head -c 20000 "$tmp/two.npz" >"$tmp/cut.npz"
exits 'an archive that is cut' 65 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/cut.npz"
says 'is named' 'expected the end of a zip archive: the file was cut short'
head -c 3000 "$tmp/one" >"$tmp/cut"
exits 'a stream that is cut' 65 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/cut"

# archive OUT EXPRESSION: an archive that Python writes; a is the two images of zeros.
archive() {
    python '
z = np.zeros
getattr(np, sys.argv[3])(sys.argv[1], **eval(sys.argv[2]))' "$1" "$2" "${3:-savez}"
}
mkfifo "$tmp/fifo"
cat "$tmp/two.npz" >"$tmp/fifo" 2>"$tmp/null" &
exits 'an archive through a FIFO' 65 timeout 20 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/fifo"
says 'is told to be a regular file' "$tmp/fifo: byte 0: not a tensor stream but a zip archive: where an .npz is accepted, it must be a regular file"
wait
from() {
    path=$1
    shift
    "$@" <"$path"
}
exits 'an archive on standard input' 65 from "$tmp/two.npz" evaluate-images -m fid -r "$tmp/one.npz"
says 'is told to be given by its name' 'must be a regular file, given by its name'
exits 'reference and images from standard input' 64 from "$tmp/one" evaluate-images -m fid -r -
says 'are refused' "--reference and the images can't both be standard input"
exits 'a reference from standard input' 0 from "$tmp/one" evaluate-images -m fid -r - "$tmp/two"
is '... has no hash' "$(figure reference_hash "$tmp/out")" ''

archive "$tmp/grey.npz" '{"arr_0": z((3, 8, 8, 1), np.uint8)}'
exits 'images of one channel' 65 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/grey.npz"
says 'are refused' "$tmp/grey.npz: expected arr_0 of U8 [N, N, N, 3], found U8 [3, 8, 8, 1]"
archive "$tmp/keys.npz" '{"x": z(3)}'
exits 'an archive of other arrays' 65 evaluate-images -m fid -r "$tmp/keys.npz" "$tmp/one.npz"
says 'is refused' "$tmp/keys.npz: expected the arrays mu and sigma, or arr_0, found neither"
archive "$tmp/nan.npz" '{"mu": z(256), "sigma": z((256, 256)) * np.nan}'
exits 'statistics with NaN' 65 evaluate-images -m fid -r "$tmp/nan.npz" "$tmp/one.npz"
says 'are refused' 'a mean or covariance holds numbers that are not finite'
archive "$tmp/narrow.npz" '{"mu": z(64), "sigma": z((64, 64))}'
exits 'statistics of another width' 65 evaluate-images -m fid -r "$tmp/narrow.npz" "$tmp/one.npz"
says 'are refused' "expected 256 features an image, as the samples have, found 64"
archive "$tmp/uneven.npz" '{"mu": z(64), "sigma": z((64, 63))}'
exits 'a covariance that is not square' 65 evaluate-images -m fid -r "$tmp/uneven.npz" "$tmp/one.npz"
archive "$tmp/zeros.npz" '{"mu": z(256), "sigma": z((256, 256))}'
exits 'statistics without a count' 0 evaluate-images -m fid -r "$tmp/zeros.npz" "$tmp/one.npz"
exits 'images of an unknown number' 0 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/zeros.npz"
is '... have no number' "$(figure images "$tmp/out")" ''
exits 'statistics without a count twice' 65 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/zeros.npz" "$tmp/zeros.npz"
says 'cannot be merged' 'merged only if each says of how many'
exits 'figures that need features of a set without' 65 evaluate-images -m precision -r "$tmp/zeros.npz" "$tmp/one.npz"
says 'are refused if they are named' "precision can't be computed: $tmp/zeros.npz lacks the features of all its images"
exits 'images after them' 65 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/zeros.npz" "$tmp/two.npz"
archive "$tmp/packed.npz" '{"arr_0": np.load(sys.argv[1].replace("packed", "two"))["arr_0"]}' savez_compressed
exits 'a compressed archive' 0 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/packed.npz"
is '... gives what a plain one does' "$(figure fid "$tmp/out")" "$(figure fid "$tmp/plain")"
python '
b = bytearray(open(sys.argv[1], "rb").read())
b[len(b) // 2] ^= 255
open(sys.argv[2], "wb").write(b)' "$tmp/two.npz" "$tmp/flipped.npz"
exits 'an archive with a flipped byte' 65 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/flipped.npz"
says 'is found by its checksum' 'its checksum is wrong'
python '
header = repr({"descr": "|u1", "fortran_order": False, "shape": (300000, 256, 256, 3)}).ljust(117) + "\n"
with zipfile.ZipFile(sys.argv[1], "w") as f:
    f.writestr("arr_0.npy", b"\x93NUMPY\x01\x00v\x00" + header.encode() + bytes(1000))' "$tmp/large.npz"
exits 'an archive of 60 GB by its header' 65 evaluate-images -m fid -r "$tmp/one.npz" "$tmp/large.npz"
says 'is refused' 'expected 58982400000 bytes of data (U8 [300000, 256, 256, 3]), found 1000'
done_testing
