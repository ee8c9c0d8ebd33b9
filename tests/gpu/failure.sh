#!/bin/sh
# failure.sh SECONDS COMMAND...: looks closer at a test that failed on a GPU. It runs the command again by
# itself with CUDA_LAUNCH_BLOCKING=1, so that a fault is seen where it happens, then under
# compute-sanitizer's memcheck and racecheck, each for a third of the time, and appends the output to
# $OUT/failures.txt. SPDX-License-Identifier: MIT
set -u
out=${OUT:?}/failures.txt
share=$(($1 / 3))
shift
said=$(mktemp) || exit 73
trap 'rm -f "$said"' EXIT

# attempt HOW COMMAND...: keeps the last lines, and says how it ended.
attempt() {
    attempt_how=$1
    shift
    echo "== $attempt_how: $*" >>"$out"
    timeout -k 3 "$share" "$@" >"$said" 2>&1
    attempt_status=$?
    grep -v '^ok ' "$said" | tail -n 60 >>"$out"
    case $attempt_status in
    0) attempt_end=passes ;;
    124 | 137) attempt_end="stopped after $share s" ;;
    *) attempt_end="fails, exit $attempt_status" ;;
    esac
    echo "-- $attempt_end" >>"$out"
    echo "  $attempt_how: $attempt_end"
}
[ "$share" -ge 3 ] || { echo "  no time is left to look closer at: $*"; exit 0; }
attempt 'by itself' env CUDA_LAUNCH_BLOCKING=1 "$@"
for tool in memcheck racecheck; do
    if command -v compute-sanitizer >/dev/null; then
        attempt "$tool" compute-sanitizer --tool "$tool" --target-processes all --report-api-errors no \
            --print-limit 20 --error-exitcode 99 "$@"
    else
        echo "  $tool: not here"
    fi
done
