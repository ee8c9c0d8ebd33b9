#!/bin/sh
# sample-part.sh I: draws the I-th of PARTS parts of COUNT samples of WEIGHTS into WORK/, unless its
# output exists and is complete. sample-50k.sh calls it for each part; so can xargs, parallel or a
# job array, with sample-50k.sh's environment variables. SPDX-License-Identifier: MIT
set -eu
# shellcheck source=pipelines/stages.sh
. "$(dirname "$0")/stages.sh"

[ $# -eq 1 ] || fail 'usage: sample-part.sh I'
check_number I "$1"
sample_settings
samples=$(part_file "$WORK" "$1")
if [ -e "$samples" ] && dit-info --check "$samples" >/dev/null; then
    exit 0
fi
say "Part $1 of $PARTS"
mkdir -p "$WORK"
# shellcheck disable=SC2086 # SAMPLE_OPTIONS is a list of words
dit-sample -@ "$(threads)" --weights "$WEIGHTS" --count "$COUNT" --classes "$CLASSES" \
    --cfg-scale "$CFG_SCALE" --steps "$SAMPLE_STEPS" --seed "$SEED" $SAMPLE_OPTIONS \
    --part "$1/$PARTS" -o "$samples" &
wait_for_last
