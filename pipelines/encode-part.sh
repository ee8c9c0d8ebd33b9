#!/bin/sh
# encode-part.sh I: the I-th of PARTS parts of the files in WORK/files -> WORK/latents/, unless it is
# there. What imagenet256.sh does for each part, and so can xargs, parallel or a job array; the
# settings are its variables. SPDX-License-Identifier: MIT
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
# decode-images names what it skips; vae-encode fails if what it gets is not whole.
decode-images -@ "$(threads)" --size "$SIZE" --part "$1/$PARTS" --no-progress <"$WORK/files" |
    vae-encode -@ "$(threads)" ${DIT_VAE:+--vae "$DIT_VAE"} ${FLIP:+"$FLIP"} -o "$latents" &
finish
