#!/bin/sh
# The readers in tstream(5), in C and in Python, are complete and agree. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

# The N-th display of the page, as it is shown.
display() {
    awk -v want="$1" '
        /^\.Bd -literal$/ { n++; inside = 1; next }
        /^\.Ed$/ { inside = 0 }
        inside && n == want { gsub(/\\e/, "\\"); print }' man/tstream.5
}
display 1 >"$tmp/reader.c"
display 2 >"$tmp/reader.py"
# shellcheck disable=SC2046 # a list of words
ok 'the C reader compiles' "${CC:-cc}" -Wall -Wextra -Werror "$tmp/reader.c" -o "$tmp/reader" \
    $(pkg-config --cflags --libs libzstd jansson)

"$BUILD/tests/tools/make-stream" images 50 16 7 >"$tmp/images"
"$BUILD/tests/tools/make-stream" latents 20 8 3 >"$tmp/latents"
cat "$tmp/images" "$tmp/images" >"$tmp/twice"
between() { # between INPUT OUTPUT COMMAND...
    between_in=$1
    between_out=$2
    shift 2
    "$@" <"$between_in" >"$between_out"
}
for stream in images latents twice; do
    ok "the C reader reads $stream" between "$tmp/$stream" "$tmp/c" "$tmp/reader"
    ok "the Python reader reads $stream" between "$tmp/$stream" "$tmp/python" \
        "$python3" "$tmp/reader.py"
    is "both readers find the same in $stream" "$(cat "$tmp/c")" "$(cat "$tmp/python")"
done
# make-stream numbers its records: 2 x (0 + 1 + ... + 49).
is 'both readers find the right sum in twice' "$(sed 's/.*"id": \([0-9]*\).*/\1/' "$tmp/c")" 2450

size=$(wc -c <"$tmp/images")
head -c $((size / 2)) "$tmp/images" >"$tmp/cut"
refuses() {
    ! "$@" <"$tmp/cut" >/dev/null 2>&1
}
ok 'the C reader refuses a stream that was cut short' refuses "$tmp/reader"
ok 'the Python reader refuses a stream that was cut short' refuses "$python3" "$tmp/reader.py"
done_testing
