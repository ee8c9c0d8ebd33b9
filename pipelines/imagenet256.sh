#!/bin/sh
# ImageNet's pictures -> latents -> shards -> a trained DiT, to be stopped and started at will.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: imagenet256.sh [--vae NAME] PICTURES
Trains a Diffusion Transformer on PICTURES, such as ImageNet's train folder (one folder a class).
Each stage leaves its output under its final name only when it is complete; called again, the
script goes on after what is there. To stop it press ^C or send SIGTERM.

      --vae=NAME   the autoencoder (default: $DIT_VAE, else the built-in one)
  -h, --help       show this help

Variables of the environment, and what they are by default:
  WORK=imagenet256   folder of everything that is made
  SIZE=256           side of the pictures in pixels
  PARTS=64           parts in which they are encoded; an interrupted part is encoded again
  FLIP=--flip        encode mirrored pictures too; empty: do not
  SHARD_SIZE=1G      bytes of data in a shard
  SHARD_MEMORY=4G    memory for shuffling; what does not fit goes through a temporary file
  MODEL=DiT-XL/2     the model
  BATCH=256          latents of a step
  STEPS=400000       steps of training
  TRAIN_OPTIONS=     more options for dit-train, such as "--recompute light --save-every 10000"

Makes WORK/files, WORK/latents/, WORK/shards/ and WORK/run/ with the weights; WORK/latents/ may be
removed when WORK/shards.list is there. sample-50k.sh WORK/run/latest.safetensors comes next.
EOF
}

# shellcheck source=pipelines/stages.sh
. "$(dirname "$0")/stages.sh"

vae=${DIT_VAE:-}
pictures=
while [ $# -gt 0 ]; do
    case $1 in
    --vae)
        [ $# -gt 1 ] || fail 'option --vae needs a value: NAME'
        vae=$2
        shift
        ;;
    --vae=*) vae=${1#*=} ;;
    -h | --help) usage && exit 0 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *)
        [ -z "$pictures" ] || fail 'one folder of pictures, please'
        pictures=$1
        ;;
    esac
    shift
done
[ -n "$pictures" ] || fail 'a folder of pictures is missing; see --help'
[ -d "$pictures" ] || fail "$pictures: no such folder"

: "${WORK:=imagenet256}" "${SIZE:=256}" "${PARTS:=64}" "${FLIP=--flip}" "${MODEL:=DiT-XL/2}"
check_number PARTS "$PARTS"
mkdir -p "$WORK"

if [ ! -e "$WORK/files" ]; then
    say "1/4 Listing the files of $pictures"
    find -L "$pictures" -type f | LC_ALL=C sort >"$WORK/files.new"
    [ -s "$WORK/files.new" ] || fail "$pictures: no files in it"
    mv "$WORK/files.new" "$WORK/files"
fi
check_kind "$WORK/latents.kind" "$pictures $SIZE $PARTS $FLIP ${vae:-dct}" \
    "$WORK has latents of other PICTURES, SIZE, PARTS, FLIP or --vae"

if [ ! -e "$WORK/shards.list" ]; then
    mkdir -p "$WORK/latents"
    part=0
    while [ $((part += 1)) -le "$PARTS" ]; do
        latents=$(printf '%s/latents/%06d.tstream' "$WORK" "$part")
        [ ! -e "$latents" ] || continue
        say "2/4 Encoding part $part of $PARTS of $(wc -l <"$WORK/files") files"
        # decode-images names what it skips; vae-encode fails if what it gets is not whole.
        decode-images --size "$SIZE" --part "$part/$PARTS" --no-progress <"$WORK/files" |
            vae-encode ${vae:+--vae "$vae"} ${FLIP:+"$FLIP"} -o "$latents" &
        finish
    done

    say '3/4 Shuffling them into shards'
    shard-latents --force --shard-size "${SHARD_SIZE:-1G}" --memory "${SHARD_MEMORY:-4G}" \
        -o "$WORK/shards" "$WORK"/latents/*.tstream >"$WORK/shards.new" &
    finish
    mv "$WORK/shards.new" "$WORK/shards.list"
fi

say "4/4 Training $MODEL"
trap - INT TERM
# shellcheck disable=SC2086 # TRAIN_OPTIONS is a list of words
exec dit-train --resume --run "$WORK/run" --model "$MODEL" --batch "${BATCH:-256}" \
    --steps "${STEPS:-400000}" ${TRAIN_OPTIONS:-} "$WORK"/shards/*.tstream
