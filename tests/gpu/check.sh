#!/bin/sh
# check.sh runs the tests that need a GPU (TESTS="NAME ..." picks some): the primitives of kernels/cuda/cuda.h,
# sums between GPUs ($GPUS of them, by default all), every operation against ref (OPERATIONS=NAME,... picks
# some, LIMIT=N bounds the seconds of each) and twice with equal bits, the reference data, and the programs against themselves on the CPU.
# Prints "N passed, N failed" at the end and appends the tests' output to $OUT/checks.txt. What fails is
# run again with closer checks (failure.sh). WRAP=COMMAND runs the compiled tests under a command such as
# compute-sanitizer. Nothing runs after $END, in seconds since 1970. SPDX-License-Identifier: MIT
# Run from the top of the tree with the programs on the PATH (make check-gpu does).
set -u
build=${B:-build}
export OUT="${OUT:-$build/gpu-results}"
out=$OUT
end=${END:-$(($(date +%s) + 1800))}
mkdir -p "$out" || exit 73
. tests/gpu/need.sh
WRAP=${WRAP:-}
repeat=1
[ -z "$WRAP" ] || repeat= # what wraps the tests makes them slow
passed=0
failed=0
said=$(mktemp) || exit 73
trap 'rm -f "$said"' EXIT

# look_closer COMMAND...: for 60 seconds, or what is left.
look_closer() {
    closer_most=$((end - $(date +%s) - 5))
    sh tests/gpu/failure.sh $((closer_most < 60 ? closer_most : 60)) "$@"
}

# check NAME SECONDS COMMAND...: runs a program that prints TAP. One that does not finish counts as a
# failure, besides those of its cases.
check() {
    check_name=$1
    check_limit=$2
    shift 2
    case " ${TESTS:-$check_name} " in *" $check_name "*) ;; *) return ;; esac
    check_start=$(date +%s)
    if [ "$end" -le "$check_start" ]; then
        echo "$check_name: no time is left" | tee -a "$out/checks.txt"
        failed=$((failed + 1))
        return
    fi
    if [ $((end - check_start)) -lt "$check_limit" ]; then
        check_limit=$((end - check_start))
    fi
    timeout -k 2 "$check_limit" "$@" >"$said" 2>&1
    check_status=$?
    check_seconds=$(($(date +%s) - check_start))
    check_counts=$(awk -v status=$check_status '
        /^ok / && / # SKIP / { skipped++ }
        /^ok / { good++ }
        /^not ok / { bad++ }
        /^1\.\.[0-9]+$/ { planned = substr($0, 4) }
        END {
            if (planned != good + bad || planned == 0 || (status && !bad))
                bad++
            print good - skipped, bad + 0, skipped + 0
        }' "$said")
    check_good=${check_counts%% *}
    check_bad=${check_counts#* }
    check_skipped=${check_bad#* }
    check_bad=${check_bad% *}
    passed=$((passed + check_good))
    failed=$((failed + check_bad))
    echo "$check_name: $check_good passed, $check_bad failed, $check_skipped skipped, exit $check_status, $check_seconds s" |
        tee -a "$out/checks.txt"
    cat "$said" >>"$out/checks.txt"
    check_operations=$(sed -n 's/^not ok .*check-ops: \([a-z0-9_]*\) on .*/\1/p' "$said" | head -n 3)
    [ "$check_bad" = 0 ] || grep -v '^ok ' "$said" | tail -n 40
    if [ "$check_bad" = 0 ] || [ -n "$WRAP" ]; then
        return
    fi
    if [ -z "$check_operations" ]; then
        look_closer "$@"
        return
    fi
    for operation in $check_operations; do
        echo "  $operation:"
        look_closer "$build/tests/check-ops" --backend "cuda,${check_name#ops-}" --only "$operation"
    done
}

# shellcheck disable=SC2086
check primitives 60 $WRAP "$build/tests/gpu/cuda-primitives"
# check-group is not in the programs' folder, beside which the plug-in is found.
gpus=${GPUS:-$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')}
check group 120 env DIT_CUDA_PLUGIN="${DIT_CUDA_PLUGIN:-$build/lib/dit-tools/dit-cuda.so}" \
    "$build/tests/tools/check-group" cuda $((gpus > 16 ? 16 : gpus > 0 ? gpus : 1))
for precision in bf16 tf32 f32; do
    # shellcheck disable=SC2086
    check "ops-$precision" "${OPS_SECONDS:-240}" $WRAP "$build/tests/check-ops" --backend cuda,$precision \
        ${repeat:+--repeat} --limit "${LIMIT:-20}" ${OPERATIONS:+--only "$OPERATIONS"}
    # shellcheck disable=SC2086
    check "dit-reference-$precision" "${OPS_SECONDS:-60}" $WRAP "$build/tests/dit-reference" cuda,$precision
    # shellcheck disable=SC2086
    check "flow-reference-$precision" 60 $WRAP "$build/tests/flow-reference" cuda,$precision
done
for precision in bf16 tf32 f32; do
    # shellcheck disable=SC2086
    check "autoencoder-kl-$precision" 45 $WRAP "$build/tests/autoencoder-kl" cuda,$precision
done
check programs 240 sh tests/gpu/programs.sh
echo "$passed passed, $failed failed" | tee -a "$out/checks.txt"
[ "$failed" = 0 ]
