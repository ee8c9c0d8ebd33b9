#!/bin/sh
# run.sh LIBFUZZER MINUTES [TARGET]...: looks for inputs that break a promise, for so many minutes
# in all. It begins with the inputs in tests/data/fuzz, and keeps new ones beside LIBFUZZER, where
# the next run goes on with them. Exits 1 if it has found a bug, and says how to see it again.
# SPDX-License-Identifier: MIT
set -eu
fuzzer=$1 minutes=$2
shift 2
work=$(dirname "$fuzzer")
if [ $# = 0 ]; then
    for corpus in tests/data/fuzz/*.tar.zst; do
        target=${corpus##*/}
        set -- "$@" "${target%.tar.zst}"
    done
fi
jobs=$(nproc)
[ "$jobs" -le $# ] || jobs=$#
seconds=$((minutes * 60 * jobs / $#))
[ $seconds -gt 0 ] || seconds=1
mkdir -p "$work/found" "$work/log"
for target; do
    mkdir -p "$work/corpus/$target"
    zstd -dcq "tests/data/fuzz/$target.tar.zst" | tar -xf - -C "$work/corpus/$target"
done
echo "$# targets, $seconds s each, $jobs at once; new inputs go to $work/corpus"
# shellcheck disable=SC2016 # the inner shell expands these
printf '%s\n' "$@" | xargs -P "$jobs" -I '{}' sh -c '
    FUZZ_TARGET=$1 "$2" -max_total_time="$3" -timeout=20 -rss_limit_mb=2500 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$4/found/$1-" "$4/corpus/$1" \
        >"$4/log/$1" 2>&1 </dev/null || touch "$4/log/$1.failed"
    echo "$1: $(sed -n "s/^stat::number_of_executed_units: *//p" "$4/log/$1") inputs tried"
' sh '{}' "$fuzzer" "$seconds" "$work"
failed=0
for target; do
    [ -e "$work/log/$target.failed" ] || continue
    rm "$work/log/$target.failed"
    failed=1
    grep -m 1 -E 'broken promise|ERROR: |runtime error' "$work/log/$target" || true
    for input in "$work/found/$target-"*; do
        [ ! -e "$input" ] || echo "FUZZ_TARGET=$target $fuzzer $input"
    done
done
exit $failed
