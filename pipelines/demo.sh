#!/bin/sh
# Runs the whole pipeline on a small set of pictures, from files to samples.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: demo.sh [--minutes M] [--size N] [--objective NAME] [--out FOLDER] [PICTURES]
Trains a small Diffusion Transformer on PICTURES, a folder with one subfolder for each class, and
draws samples from it. Without PICTURES it trains on the emoji of Debian's font, or where that or what
draws it is missing, on shapes of its own making.

      --minutes=M       train for M minutes (default: 7)
      --size=N          crop and scale pictures to N x N pixels (default: 32)
      --objective=NAME  train by flow (default) or diffusion
      --out=FOLDER      write everything into FOLDER (default: demo)
  -h, --help            show this help

Makes FOLDER/samples.png, FOLDER/samples.npz, FOLDER/loss.png and FOLDER/run with the weights.
If $DIT_INCEPTION names the weights of the Inception network, it also computes the FID of up to 2500
samples against the pictures, of which it takes a part if they are many. This takes some minutes.
Run again with the same FOLDER, it continues the training for M more minutes.
EOF
}

fail() {
    echo "demo.sh: $*" >&2
    exit 64
}

minutes=7
size=32
objective=flow
out=demo
pictures=
while [ $# -gt 0 ]; do
    value=${1#*=}
    case $1 in
    --minutes | --size | --objective | --out)
        [ $# -gt 1 ] || fail "option $1 needs a value"
        value=$2
        ;;
    esac
    case $1 in
    --minutes | --minutes=*) minutes=$value ;;
    --size | --size=*) size=$value ;;
    --objective | --objective=*) objective=$value ;;
    --out | --out=*) out=$value ;;
    -h | --help) usage && exit 0 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *)
        [ -z "$pictures" ] || fail "expected one folder of pictures, found $pictures and $1"
        pictures=$1
        ;;
    esac
    case $1 in --minutes | --size | --objective | --out) shift ;; esac
    shift
done

here=$(cd "$(dirname "$0")/.." && pwd)
if [ -d "$here/build/bin" ]; then
    PATH=$here/build/bin:$here/build/tests/tools:$here/tests/tools:$PATH
fi
[ -n "$pictures" ] || [ -d "$out/emoji" ] || [ -d "$out/shapes" ] || command -v draw-shapes >/dev/null ||
    fail "give a folder of pictures: the programs that draw the demo's own are only in the source tree"
say() { printf '\n== %s\n' "$*" >&2; }
mkdir -p "$out"

# draw SET: draws the pictures of that name into $out, unless an earlier run did; they are complete or not
# there at all.
draw() {
    pictures=$out/$1
    [ ! -d "$pictures" ] || return 0
    rm -rf "$pictures.new"
    case $1 in
    emoji) say "Drawing the emoji" && emoji-set.sh "$pictures.new" ;;
    shapes) say "Drawing 10,000 pictures of ten shapes and textures" && draw-shapes -o "$pictures.new" --count 10000 --size 96 ;;
    esac && mv "$pictures.new" "$pictures"
}
if [ -z "$pictures" ]; then
    { [ ! -d "$out/shapes" ] && draw emoji; } || draw shapes
fi
[ -d "$pictures" ] || fail "$pictures: no such folder"

# Lists pictures by their file names, each ended by a NUL, as a name may hold a newline. decode reports
# and skips those that it cannot decode.
find -L "$pictures" -type f -regextype egrep -iregex '.*\.(jpe?g|png|webp|gif|bmp|tiff?)' -print0 >"$out/files"
[ -s "$out/files" ] || fail "$pictures: no .jpg, .jpeg, .png, .webp, .gif, .bmp or .tiff files in this folder"

say "Encoding $(tr -cd '\0' <"$out/files" | wc -c) pictures at ${size}x$size"
{ decode -0 --size "$size" <"$out/files" || [ $? -eq 1 ]; } | vae-encode -o "$out/latents.tstream"

say "Training for $minutes minutes"
dit-train --run "$out/run" --resume --minutes "$minutes" --objective "$objective" \
    --hidden 192 --depth 6 --heads 3 --patch 1 --batch 32 \
    --lr 1e-3 --lr-warmup 200 --clip 1 --ema-decay 0.998 --log-every 100 <"$out/latents.tstream"

# The sheet has a row for each of the ten largest classes, or of these emoji. Their names are quoted, as
# they may hold commas or be numbers.
if [ "$pictures" = "$out/emoji" ]; then
    printf '%s\0' animals clocks faces flags food hands hearts people symbols vehicles
else
    sed -z 's|/[^/]*$||; s|.*/||' "$out/files" | sort -z | uniq -cz | sort -zk1,1nr -k2 | head -zn 10 |
        sed -z 's/^ *[0-9]* //' | sort -z
fi >"$out/classes"
rows=$(tr -cd '\0' <"$out/classes" | wc -c)
case $objective in flow) sampler='--sampler sde-euler --steps 100' ;; *) sampler='--steps 250' ;; esac
say "Sampling 8 pictures of each of $rows classes"
# shellcheck disable=SC2086 # options
dit-sample --weights "$out/run/latest.safetensors" --count $((8 * rows)) \
    --classes "$(sed -z 's/"/""/g; s/.*/"&"/' "$out/classes" | tr '\0' , | sed '$s/,$//')" \
    --batch 40 $sampler --cfg-scale 2.5 --cfg-channels all -o "$out/samples.tstream"
tile-images --by-class --names --columns 8 --scale "$((size < 64 ? 2 : 1))" -o "$out/samples.png" "$out/samples.tstream"
npz-pack -o "$out/samples.npz" "$out/samples.tstream"

fid=
if [ -n "${DIT_INCEPTION:-}" ]; then
    pictures_in_all=$(tr -cd '\0' <"$out/files" | wc -c)
    parts=$((pictures_in_all < 2500 ? 1 : pictures_in_all / 2500))
    # Another run with the same pictures keeps their statistics.
    known="$(cksum <"$out/files") $size"
    if [ ! -e "$out/reference.npz" ] || [ "$(cat "$out/reference.of")" != "$known" ]; then
        say "Computing the features of $((pictures_in_all / parts)) pictures"
        { decode -0 --size "$size" --no-labels --part "1/$parts" <"$out/files" || [ $? -eq 1 ]; } |
            evaluate-images -q --metrics fid --save "$out/reference.npz" >/dev/null
        echo "$known" >"$out/reference.of"
    fi
    samples=$((pictures_in_all < 2500 ? pictures_in_all : 2500))
    say "Computing the FID of $samples samples, drawn without guidance in 50 steps"
    dit-sample --weights "$out/run/latest.safetensors" --count "$samples" --cfg-scale 1 --steps 50 --batch 100 |
        evaluate-images -q --metrics fid --reference "$out/reference.npz" -o "$out/fid.json"
    fid=$(sed -n 's/^  "fid": \([0-9]*\.\{0,1\}[0-9]\{0,2\}\).*/\1/p' "$out/fid.json")
fi

if ! command -v gnuplot >/dev/null; then
    echo "demo.sh: $out/loss.png is not drawn, as gnuplot is not installed" >&2
elif ! "$(dirname "$0")/plot-training.sh" -o "$out/loss.png" "$out/run"; then
    echo "demo.sh: $out/loss.png is not drawn" >&2
fi

say "Done"
{
    echo "$out/samples.png   8 samples of each class, one class per row: $(tr '\001-\037\177' '?' <"$out/classes" | tr '\0' , | sed 's/,$//; s/,/, /g')"
    echo "$out/samples.npz   the same samples as a NumPy array, for the ADM evaluation suite"
    [ ! -e "$out/loss.png" ] || echo "$out/loss.png      the training curves"
    [ -z "$fid" ] || echo "$out/fid.json      FID $fid against the pictures, of $samples samples without guidance"
    echo "$out/run           weights and log; \"dit-sample --weights $out/run/latest.safetensors\" draws more"
} >&2
