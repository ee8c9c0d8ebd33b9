#!/bin/sh
# check.sh runs the tests that need a GPU (TESTS="NAME ..." picks some): every operation against ref, the
# reference data, the primitives of kernels/cuda/cuda.h, sums between GPUs ($GPUS of them, by default
# all), and the programs against themselves on the CPU. Prints "N passed, N failed" at the end and
# appends the tests' output to $OUT/checks.txt. WRAP=COMMAND runs the compiled tests under a command such
# as compute-sanitizer. No test starts after $END, in seconds since 1970. SPDX-License-Identifier: MIT
# Run from the top of the tree with the programs on the PATH (make check-gpu does).
set -u
build=${B:-build}
out=${OUT:-$build/gpu-results}
end=${END:-$(($(date +%s) + 1800))}
mkdir -p "$out" || exit 73
. tests/gpu/need.sh
WRAP=${WRAP:-}
passed=0
failed=0

# check NAME SECONDS COMMAND...: runs a program that prints TAP. One that does not finish counts as a
# failure, besides those of its cases.
check() {
    check_name=$1
    check_limit=$2
    shift 2
    case " ${TESTS:-$check_name} " in *" $check_name "*) ;; *) return ;; esac
    check_start=$(date +%s)
    if [ $((end - check_start)) -lt "$check_limit" ]; then
        check_limit=$((end > check_start ? end - check_start : 1))
    fi
    timeout -k 5 "$check_limit" "$@" >"$out/check.tap" 2>&1
    check_status=$?
    check_seconds=$(($(date +%s) - check_start))
    # shellcheck disable=SC2046
    set -- $(awk -v status=$check_status '
        /^ok / && / # SKIP / { skipped++ }
        /^ok / { good++ }
        /^not ok / { bad++ }
        /^1\.\.[0-9]+$/ { planned = substr($0, 4) }
        END {
            if (planned != good + bad || planned == 0 || (status && !bad))
                bad++
            print good - skipped, bad + 0, skipped + 0
        }' "$out/check.tap")
    passed=$((passed + $1))
    failed=$((failed + $2))
    echo "$check_name: $1 passed, $2 failed, $3 skipped, exit $check_status, $check_seconds s" |
        tee -a "$out/checks.txt"
    [ "$2" = 0 ] || grep -v '^ok ' "$out/check.tap" | tail -n 40
    cat "$out/check.tap" >>"$out/checks.txt"
    rm -f "$out/check.tap"
}

for precision in bf16 tf32 f32; do
    # shellcheck disable=SC2086
    check "ops-$precision" 240 $WRAP "$build/tests/check-ops" --backend cuda,$precision
done
for precision in bf16 tf32 f32; do
    # shellcheck disable=SC2086
    check "dit-reference-$precision" 60 $WRAP "$build/tests/dit-reference" cuda,$precision
    # shellcheck disable=SC2086
    check "autoencoder-kl-$precision" 60 $WRAP "$build/tests/autoencoder-kl" cuda,$precision
done
# shellcheck disable=SC2086
check primitives 60 $WRAP "$build/tests/gpu/cuda-primitives"
gpus=${GPUS:-$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')}
check group 120 "$build/tests/tools/check-group" cuda $((gpus > 16 ? 16 : gpus > 0 ? gpus : 1))
check programs 240 sh tests/gpu/programs.sh
echo "$passed passed, $failed failed" | tee -a "$out/checks.txt"
[ "$failed" = 0 ]
