#!/bin/sh
# Draws samples and compares them with a reference. Can be stopped at any time and continued.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: evaluate-50k.sh [WEIGHTS]
Draws 50,000 samples from WEIGHTS (default: run/latest.safetensors) as sample-50k.sh does, and computes
their FID, sFID, Inception Score, precision, recall and KID. Run again, it keeps what is complete.

  -h, --help     show this help

Environment variables besides those of sample-50k.sh:
  REFERENCE          images or statistics to compare with, such as VIRTUAL_imagenet256_labeled.npz
  DIT_INCEPTION      weights of the network, pt_inception-2015-12-05-6726825d.pth
  EVALUATE_OPTIONS=  more options for evaluate-images, such as "--half-distances"

Makes WORK/evaluation.json, and prints it.
EOF
}

# shellcheck source=pipelines/stages.sh
. "$(dirname "$0")/stages.sh"

choose_weights "$@"
[ -n "${REFERENCE:-}" ] || fail "REFERENCE names no file; see --help"
[ -f "$REFERENCE" ] || fail "$REFERENCE: no such file"
WORK=${WORK:-samples}

"$(dirname "$0")/sample-50k.sh" "$WEIGHTS" &
wait_for_last
check_recipe "$WORK/evaluation.kind" "$REFERENCE ${DIT_INCEPTION:-} ${EVALUATE_OPTIONS:-}" \
    "$WORK holds an evaluation made with another reference or other settings"
if [ ! -e "$WORK/evaluation.json" ]; then
    say "Comparing with $REFERENCE"
    # shellcheck disable=SC2086 # several words
    evaluate-images --reference "$REFERENCE" -o "$WORK/evaluation.json" ${EVALUATE_OPTIONS:-} "$WORK/samples.npz" &
    wait_for_last
fi
cat "$WORK/evaluation.json"
