#!/bin/sh
# Encodes ImageNet's pictures, shuffles the latents into shards and trains a DiT on them. Can be
# stopped at any time and continued.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: imagenet256.sh [--vae NAME] [--until STAGE] PICTURES
Trains a Diffusion Transformer on PICTURES, such as ImageNet's train folder, which has one subfolder
for each class. To stop it press ^C or send SIGTERM. Run again, it continues where it was stopped:
output that has its final name is complete and is not made again. On a Slurm cluster use
slurm/submit.sh.

      --vae=NAME     encode with the autoencoder NAME (default: $DIT_VAE, else the built-in one)
      --until=STAGE  stop after STAGE: files, latents, shards or train (default: train)
  -h, --help         show this help

Environment variables and their defaults:
  WORK=imagenet256   folder for all output
  SIZE=256           crop and scale pictures to SIZE x SIZE pixels
  PARTS=64           encode in this many parts; an interrupted part is encoded again
  JOBS=1             encode this many parts at once
  FLIP=--flip        also encode mirrored pictures; set it to nothing to leave them out
  SHARD_SIZE=1G      bytes of data per shard
  SHARD_MEMORY=4G    memory for shuffling; data beyond it is shuffled in a temporary file
  MODEL=DiT-XL/2     model to train
  BATCH=256          latents per training step
  STEPS=400000       training steps
  TRAIN_OPTIONS=     more options for dit-train, such as "--recompute light --save-every 10000"

Makes WORK/files0, WORK/latents/, WORK/shards/ and WORK/run/ with the weights. WORK/latents/ may be
removed once WORK/shards.list exists. Then sample-50k.sh WORK/run/latest.safetensors draws samples.
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
        [ -z "$pictures" ] || fail "expected one folder of pictures, found $pictures and $1"
        pictures=$1
        ;;
    esac
    shift
done
[ -n "$pictures" ] || fail 'expected a folder of pictures; see --help'
[ -d "$pictures" ] || fail "$pictures: no such folder"

case $until in
files | latents | shards | train) ;;
*) fail "--until: expected files, latents, shards or train, found '$until'" ;;
esac
stop_after() { # stop_after STAGE
    [ "$until" != "$1" ] || exit 0
}

DIT_VAE=${DIT_VAE:-}
encode_settings
mkdir -p "$WORK/latents"
# Each path is ended by a NUL, as a name may hold a newline.
if [ ! -e "$WORK/files0" ]; then
    say "1/4 Listing the files of $pictures"
    find -L "$pictures" -type f -print0 | LC_ALL=C sort -z >"$WORK/files.new"
    [ -s "$WORK/files.new" ] || fail "$pictures: no files in this folder"
    mv "$WORK/files.new" "$WORK/files0"
fi
check_recipe "$WORK/latents.kind" "$pictures $SIZE $PARTS $FLIP ${DIT_VAE:-dct}" \
    "$WORK holds latents made with another PICTURES, SIZE, PARTS, FLIP or --vae"
stop_after files

if [ ! -e "$WORK/shards.list" ]; then
    say "2/4 Encoding $(tr -cd '\0' <"$WORK/files0" | wc -c) files in $PARTS parts"
    run_parts encode-part.sh "$PARTS" "$JOBS"
    stop_after latents

    say '3/4 Shuffling the latents into shards'
    shard-latents --force --shard-size "${SHARD_SIZE:-1G}" --memory "${SHARD_MEMORY:-4G}" \
        -o "$WORK/shards" "$WORK"/latents/*.tstream >"$WORK/shards.new" &
    wait_for_last
    mv "$WORK/shards.new" "$WORK/shards.list"
fi
case $until in latents | shards) exit 0 ;; esac

MODEL=${MODEL:-DiT-XL/2}
say "4/4 Training $MODEL"
trap - INT TERM
# shellcheck disable=SC2086 # TRAIN_OPTIONS is a list of words
exec dit-train --resume --run "$WORK/run" --model "$MODEL" --batch "${BATCH:-256}" \
    --steps "${STEPS:-400000}" ${TRAIN_OPTIONS:-} "$WORK"/shards/*.tstream
