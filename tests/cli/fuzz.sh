#!/bin/sh
# The inputs that fuzzing has found: each ends in a result or in a message. `make fuzz` looks for
# more of them. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions are arguments of others
. tests/tap.sh
if ! command -v zstd >/dev/null; then
    skip 'the inputs that fuzzing has found' 'no zstd here'
    done_testing
fi
for corpus in tests/data/fuzz/*.tar.zst; do
    target=${corpus##*/}
    target=${target%.tar.zst}
    mkdir "$tmp/$target"
    zstd -dcq "$corpus" | tar -xf - -C "$tmp/$target"
    exits "each input of the target $target ends in a result or a message" 0 \
        timeout 300 "$BUILD/tests/fuzz/replay" "$target" "$tmp/$target"
    # The last input named is the one that ended the process.
    [ "$tap_got" = 0 ] || tail -n 1 "$tmp/out" | sed 's/^/# /'
done
targets() { # those that the fuzzer knows
    sed -n '/^#define FUZZ_TARGETS/,/^$/p' tests/fuzz/fuzz.h | grep -o 'X([a-z]*)' | tr -d 'X()' | sort
}
is 'every target has inputs' "$(cd "$tmp" && find . -mindepth 1 -type d | cut -c 3- | sort)" "$(targets)"
exits 'an unknown target' 64 "$BUILD/tests/fuzz/replay" nonsense "$tmp"
done_testing
