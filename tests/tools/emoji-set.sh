#!/bin/sh
# emoji-set.sh FOLDER: writes Debian's colour emoji as labelled PNG pictures, without variants by skin
# tone: a subfolder for each class. Fails with one line, and leaves nothing, if something that it needs
# is missing: fonts-noto-color-emoji, unicode-data, hb-shape (libharfbuzz-bin), draw-emoji (FreeType).
# SPDX-License-Identifier: MIT
set -eu

font=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
list=/usr/share/unicode/emoji/emoji-test.txt
lacks() { echo "emoji-set.sh: the emoji cannot be drawn without $1" >&2; exit 69; }
[ -e "$font" ] || lacks "$font (Debian: fonts-noto-color-emoji)"
[ -e "$list" ] || lacks "$list (Debian: unicode-data)"
command -v hb-shape >/dev/null || lacks 'hb-shape (Debian: libharfbuzz-bin)'
command -v draw-emoji >/dev/null || lacks 'draw-emoji, which needs FreeType (Debian: libfreetype-dev)'

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
# Lines of class, name and text. A class is one of Unicode's groups, or a part of it that stands for itself.
awk '
    /^# group: / { group = tolower($3) }
    /^# subgroup: / { class = group }
    /^# subgroup: face/ { class = "faces" }
    /^# subgroup: (cat|monkey)-face/ { class = "animals" }
    /^# subgroup: heart/ { class = "hearts" }
    /^# subgroup: emotion/ { class = "symbols" }
    /^# subgroup: hand/ { class = "hands" }
    /^# subgroup: plant/ { class = "plants" }
    /^# subgroup: time/ { class = "clocks" }
    /^# subgroup: sky/ { class = "sky" }
    /^# subgroup: transport-(ground|water|air)/ { class = "vehicles" }
    /^# subgroup: clothing/ { class = "clothes" }
    /; fully-qualified/ && !/skin tone/ {
        sub(/.*# /, "")
        text = $1
        sub(/^[^ ]+ E[0-9.]+ /, "")
        gsub(/[^A-Za-z0-9]+/, "-")
        print class "\t" $0 "\t" text
    }' "$list" >"$tmp/list"
# A line of [glyph=cluster+advance] for each text. What the font does not know becomes several glyphs, or 0.
cut -f 3 "$tmp/list" | hb-shape --no-clusters --no-positions --no-glyph-names "$font" >"$tmp/glyphs"
cut -f 1 "$tmp/list" | sort -u | while read -r class; do
    mkdir -p "$1/$class"
done
paste "$tmp/glyphs" "$tmp/list" | awk -F '\t' -v folder="$1" '
    $1 ~ /^\[[1-9][0-9]*\]$/ { print substr($1, 2, length($1) - 2) "\t" folder "/" $2 "/" $3 ".png" }' |
    draw-emoji "$font"
