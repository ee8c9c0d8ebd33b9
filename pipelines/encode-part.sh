#!/bin/sh
# encode-part.sh I: encodes the I-th of PARTS parts of the files listed in WORK/files0 into
# WORK/latents/, unless its output exists. imagenet256.sh calls it for each part; so can xargs,
# parallel or a job array, with imagenet256.sh's environment variables. SPDX-License-Identifier: MIT
set -eu
# shellcheck source=pipelines/stages.sh
. "$(dirname "$0")/stages.sh"

[ $# -eq 1 ] || fail 'usage: encode-part.sh I'
check_number I "$1"
encode_settings
latents=$(part_file "$WORK/latents" "$1")
[ ! -e "$latents" ] || exit 0
say "Part $1 of $PARTS"
mkdir -p "$WORK/latents"
# decode-images names the files that it skips (exit status 1); vae-encode fails if its input is cut
# short. So the status of the pipe, vae-encode's, is enough.
decode-images -@ "$(threads)" --size "$SIZE" --part "$1/$PARTS" --no-progress -0 <"$WORK/files0" |
    vae-encode -@ "$(threads)" ${DIT_VAE:+--vae "$DIT_VAE"} ${FLIP:+"$FLIP"} -o "$latents" &
wait_for_last
