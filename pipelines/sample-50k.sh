#!/bin/sh
# Samples for the ADM evaluation suite, drawn in parts, to be stopped and started at will.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: sample-50k.sh [WEIGHTS]
Draws 50,000 samples from WEIGHTS (default run/latest.safetensors) and packs them into one .npz.
Parts that are complete are kept; called again, the script draws those that are missing. The
result does not depend on that. To stop it press ^C or send SIGTERM. On a cluster of Slurm:
slurm/submit.sh.

  -h, --help     show this help

Variables of the environment, and what they are by default:
  WORK=samples       folder of the parts and of samples.npz
  COUNT=50000        samples
  PARTS=100          parts in which they are drawn
  JOBS=1             parts at once
  CLASSES=random     classes, as for dit-sample: random, balanced or a list
  CFG_SCALE=1.5      guidance; 1: none
  SAMPLE_STEPS=250   sampling steps
  SEED=0             the seed
  SAMPLE_OPTIONS=    more options for dit-sample, such as "--batch 32 --sampler ddim"

Makes WORK/000001.tstream, ... and of them WORK/samples.npz.
EOF
}

# shellcheck source=pipelines/stages.sh
. "$(dirname "$0")/stages.sh"

case ${1:-} in
-h | --help) usage && exit 0 ;;
-*) fail "unknown option '$1'; see --help" ;;
esac
[ $# -le 1 ] || fail 'one file of weights, please'
WEIGHTS=${1:-${WEIGHTS:-run/latest.safetensors}}
[ -f "$WEIGHTS" ] || fail "$WEIGHTS: no such file"

sample_settings
mkdir -p "$WORK"
check_kind "$WORK/samples.kind" "$COUNT $CLASSES $CFG_SCALE $SAMPLE_STEPS $SEED $SAMPLE_OPTIONS \
$PARTS $(cksum <"$WEIGHTS")" "$WORK has samples of other weights or settings"
if [ -e "$WORK/samples.npz" ]; then
    say "$WORK/samples.npz is there already"
    exit 0
fi

say "Drawing $COUNT samples in $PARTS parts"
run_parts sample-part.sh "$PARTS" "$JOBS"

say "Packing $COUNT samples"
tstream-cat --no-progress "$WORK"/*.tstream | npz-pack -o "$WORK/samples.npz" &
finish
say "$WORK/samples.npz is complete"
