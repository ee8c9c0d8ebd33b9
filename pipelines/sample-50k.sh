#!/bin/sh
# Draws samples for the ADM evaluation suite in parts. Can be stopped at any time and continued.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: sample-50k.sh [WEIGHTS]
Draws 50,000 samples from WEIGHTS (default: run/latest.safetensors) and packs them into one .npz.
To stop it press ^C or send SIGTERM. Run again, it keeps complete parts and draws the missing ones;
the result is the same as without interruption. On a Slurm cluster use slurm/submit.sh.

  -h, --help     show this help

Environment variables and their defaults:
  WORK=samples       folder for the parts and samples.npz
  COUNT=50000        number of samples
  PARTS=100          draw in this many parts
  JOBS=1             draw this many parts at once
  CLASSES=random     classes of the samples: random, balanced or a list, as for dit-sample
  CFG_SCALE=1.5      classifier-free guidance scale; 1 turns guidance off
  SAMPLE_STEPS=250   sampling steps
  SEED=0             random seed
  SAMPLE_OPTIONS=    more options for dit-sample, such as "--batch 32 --sampler ddim"

Makes WORK/000001.tstream and so on, and WORK/samples.npz from them.
EOF
}

# shellcheck source=pipelines/stages.sh
. "$(dirname "$0")/stages.sh"

choose_weights "$@"

sample_settings
mkdir -p "$WORK"
check_recipe "$WORK/samples.kind" "$COUNT $CLASSES $CFG_SCALE $SAMPLE_STEPS $SEED $SAMPLE_OPTIONS \
$PARTS $(cksum <"$WEIGHTS")" "$WORK holds samples made with other weights or settings"
if [ -e "$WORK/samples.npz" ]; then
    say "$WORK/samples.npz is already complete"
    exit 0
fi

say "Drawing $COUNT samples in $PARTS parts"
run_parts sample-part.sh "$PARTS" "$JOBS"

say "Packing $COUNT samples"
tstream-cat --no-progress "$WORK"/*.tstream | npz-pack -o "$WORK/samples.npz" &
wait_for_last
say "$WORK/samples.npz is complete"
