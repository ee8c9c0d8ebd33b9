#!/bin/sh
# ImageNet's pictures -> latents -> shards -> a trained DiT, to be stopped and started at will.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: imagenet256.sh [--vae NAME] [--until STAGE] PICTURES
Trains a Diffusion Transformer on PICTURES, such as ImageNet's train folder (one folder a class).
Each stage leaves its output under its final name only when it is complete; called again, the
script goes on after what is there. To stop it press ^C or send SIGTERM. On a cluster of Slurm: slurm/submit.sh.

      --vae=NAME     the autoencoder (default: $DIT_VAE, else the built-in one)
      --until=STAGE  stop when STAGE is done: files, latents, shards or train (default)
  -h, --help         show this help

Variables of the environment, and what they are by default:
  WORK=imagenet256   folder of everything that is made
  SIZE=256           side of the pictures in pixels
  PARTS=64           parts in which they are encoded; an interrupted part is encoded again
  JOBS=1             parts at once
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

pictures=
until=train
while [ $# -gt 0 ]; do
    case $1 in
    --vae)
        [ $# -gt 1 ] || fail 'option --vae needs a value: NAME'
        DIT_VAE=$2
        shift
        ;;
    --vae=*) DIT_VAE=${1#*=} ;;
    --until)
        [ $# -gt 1 ] || fail 'option --until needs a value: STAGE'
        until=$2
        shift
        ;;
    --until=*) until=${1#*=} ;;
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

case $until in
files | latents | shards | train) ;;
*) fail "--until: expected files, latents, shards or train, found '$until'" ;;
esac
done_with() { # done_with STAGE
    [ "$until" != "$1" ] || exit 0
}

DIT_VAE=${DIT_VAE:-}
encode_settings
mkdir -p "$WORK/latents"
if [ ! -e "$WORK/files" ]; then
    say "1/4 Listing the files of $pictures"
    find -L "$pictures" -type f | LC_ALL=C sort >"$WORK/files.new"
    [ -s "$WORK/files.new" ] || fail "$pictures: no files in it"
    mv "$WORK/files.new" "$WORK/files"
fi
check_kind "$WORK/latents.kind" "$pictures $SIZE $PARTS $FLIP ${DIT_VAE:-dct}" \
    "$WORK has latents of other PICTURES, SIZE, PARTS, FLIP or --vae"
done_with files

if [ ! -e "$WORK/shards.list" ]; then
    say "2/4 Encoding $(wc -l <"$WORK/files") files in $PARTS parts"
    run_parts encode-part.sh "$PARTS" "$JOBS"
    done_with latents

    say '3/4 Shuffling them into shards'
    shard-latents --force --shard-size "${SHARD_SIZE:-1G}" --memory "${SHARD_MEMORY:-4G}" \
        -o "$WORK/shards" "$WORK"/latents/*.tstream >"$WORK/shards.new" &
    finish
    mv "$WORK/shards.new" "$WORK/shards.list"
fi
case $until in latents | shards) exit 0 ;; esac

MODEL=${MODEL:-DiT-XL/2}
say "4/4 Training $MODEL"
trap - INT TERM
# shellcheck disable=SC2086 # TRAIN_OPTIONS is a list of words
exec dit-train --resume --run "$WORK/run" --model "$MODEL" --batch "${BATCH:-256}" \
    --steps "${STEPS:-400000}" ${TRAIN_OPTIONS:-} "$WORK"/shards/*.tstream
