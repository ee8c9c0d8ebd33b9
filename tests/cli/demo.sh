#!/bin/sh
# The pictures of demo.sh: the emoji of Debian's font, or shapes where what draws those is missing.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317,SC2016 # functions are arguments of others; the inner shells expand
. tests/tap.sh

# A folder of programs without emoji-set.sh's, and one where they draw nothing.
mkdir "$tmp/few" "$tmp/none" "$tmp/pipelines"
for program in dirname mktemp rm mkdir mv cat sh; do
    ln -s "$(command -v $program)" "$tmp/few/$program"
done
without() { PATH=$tmp/few tests/tools/emoji-set.sh "$tmp/emoji"; }
exits 'emoji-set.sh without what it needs' 69 without
says 'names it and its package' '(Debian: '
ok '... leaves nothing' [ ! -e "$tmp/emoji" ]

cp pipelines/demo.sh "$tmp/pipelines"
printf '#!/bin/sh\necho "emoji-set.sh: no font" >&2\nexit 69\n' >"$tmp/none/emoji-set.sh"
printf '#!/bin/sh\nmkdir "$2"\n' >"$tmp/none/draw-shapes"
chmod +x "$tmp"/none/*
demo() { PATH=$tmp/none:$PATH "$tmp/pipelines/demo.sh" --out "$tmp/out-$1"; }
exits 'demo.sh where no emoji can be drawn' 64 demo 1
says 'tells why' 'emoji-set.sh: no font'
says 'draws shapes' 'Drawing 10,000 pictures of ten shapes'
ok '... into their folder' [ -d "$tmp/out-1/shapes" ]
printf '#!/bin/sh\nmkdir "$1"\n' >"$tmp/none/emoji-set.sh"
exits 'demo.sh, run again with the font,' 64 demo 1
ok '... stays with the pictures of its folder' [ ! -e "$tmp/out-1/emoji" ]
exits 'demo.sh where emoji can be drawn' 64 demo 2
ok '... draws them' [ -d "$tmp/out-2/emoji" ]

draw() { PATH=$BUILD/tests/tools:$PATH tests/tools/emoji-set.sh "$tmp/drawn"; }
if draw 2>"$tmp/why"; then
    is 'the emoji have 16 classes' "$(find "$tmp/drawn" -mindepth 1 -type d | wc -l)" 16
    ok '... more than 1,800 pictures' [ "$(find "$tmp/drawn" -name '*.png' | wc -l)" -gt 1800 ]
    ok '... which decode-images reads' decode -q --size 16 -o "$tmp/images" "$tmp/drawn/hearts"
    ok '... and no variants of skin' sh -c '! ls "$1"/* | grep -q skin-tone' - "$tmp/drawn"
else
    skip 'the emoji' "$(cat "$tmp/why")"
fi
done_testing
