#!/bin/sh
# Products on a GPU are done by the fastest of cuBLASLt's algorithms that works, or by the first where a
# run must be repeatable. cuBLASLt is simulated (tests/cudasim/cublaslt.cu). SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
export DIT_CUDA_PLUGIN="$BUILD/lib/dit-cuda-sim.so" DIT_CUDA_LOG="$tmp/log"

# agree ALGORITHMS OPERATION [PRECISION]: the operation agrees with ref where cuBLASLt offers these.
agree() {
    rm -f "$tmp/log"
    CUDASIM_ALGORITHMS=$1 "$BUILD/tests/check-ops" --backend "cuda,${3:-bf16}" --only "$2" >"$tmp/out" 2>"$tmp/err" ||
        { sed 's/^/# /' "$tmp/out" "$tmp/err" && false; }
}
# products FIELD: what the log has in this column of the chosen algorithms, each once.
products() {
    awk -F'\t' -v field="$1" 'NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        $column["chosen"] == "chosen" { print $column[field] }' "$tmp/log" | sort -u | paste -sd,
}
# all ALGORITHMS: linear_gelu and the weights' gradients, whose products accumulate, agree.
all() {
    agree "$1" linear_gelu && agree "$1" linear_backward_weight
}
ok 'the fastest of several algorithms is used' all 'slow fast'
is '... and not the first' "$(awk -F'\t' 'NR > 1 && $13 == "chosen" && $2 * $3 * $4 < 20000 && $11 > 15' "$tmp/log")" ''
ok 'an algorithm that splits K works' all 'split'
is '... and the log tells it' "$(products split)" 2
ok 'an algorithm that fails is passed over' all 'fails slow'
ok '... also where it is the only one with a fused epilogue' agree 'epilogue-fails plain-fast' linear_gelu
is '... so that GELU is a kernel of its own' "$(products fused)" 'not gelu'
ok 'an algorithm that is offered as not supported is passed over' all 'none fast'
is '... without being tried' "$(grep -c NOT_SUPPORTED "$tmp/log")" 0
ok 'a slow fused epilogue is passed over' agree 'epilogue-slow plain-fast' linear_backward_input_gelu
is '... for a kernel of its own' "$(products fused)" 'not gelu'
ok 'a fast fused epilogue is used' agree 'epilogue-fast plain-slow' linear_backward_input_gelu
is '... where the sizes allow it' "$(products fused)" 'all,not gelu'
for precision in f32 tf32; do
    ok "in $precision cuBLASLt's GELU is not used" agree 'epilogue-fast plain-slow' linear_gelu $precision
    is '... as it is not exact' "$(products fused)" 'not gelu'
done
ok 'a deterministic GPU' agree 'split slow fast' linear_gelu bf16,deterministic
is '... does not split K' "$(products split)" 1
is '... and times nothing' "$(products ms)" 0.0000

# breaks CALL ALGORITHMS: a product can't be done.
breaks() {
    CUDASIM_CUBLASLT=$1 agree "$2" linear
}
fails_with() { # fails_with TEXT CALL ALGORITHMS
    fails_text=$1
    shift
    ! breaks "$@" >/dev/null && grep -qF -- "$fails_text" "$tmp/out" "$tmp/err"
}
ok 'products that no algorithm can do are an error' fails_with 'running it: CUBLAS_STATUS_EXECUTION_FAILED' '' 'fails fails'
ok 'products for which cuBLASLt has no algorithm are an error' \
    fails_with 'no algorithm is usable: CUBLAS_STATUS_NOT_SUPPORTED' '' 'none'
ok 'a setting that cuBLASLt refuses is named' \
    fails_with 'setting TRANSA: CUBLAS_STATUS_INVALID_VALUE' TRANSA fast
ok 'a matrix that cuBLASLt refuses is told' \
    fails_with 'describing a matrix: CUBLAS_STATUS_ALLOC_FAILED' cublasLtMatrixLayoutCreate fast
ok 'an epilogue that cuBLASLt refuses is a kernel of its own' breaks BIAS_POINTER fast
is '... with the bias' "$(products fused)" '-,none'

"$BUILD/tests/tools/make-stream" latents 8 8 10 >"$tmp/latents"
train() { # train RUN ALGORITHMS OPTION...
    train_run=$1 train_algorithms=$2
    shift 2
    CUDASIM_ALGORITHMS=$train_algorithms dit-train -q -@ 1 --device cuda --depth 1 --hidden 64 --heads 1 --patch 4 \
        --classes 10 --batch 4 --lr 1e-3 --log-every 1 --steps 2 --run "$tmp/$train_run" "$@" "$tmp/latents"
}
weights() { # weights RUN RUN: both have the same bytes
    cmp -s "$tmp/$1/latest.safetensors" "$tmp/$2/latest.safetensors"
}
differ() {
    ! weights "$@"
}
# The names of the runs' folders are as long as each other and not part of a checkpoint.
train fixed-1 'slow split fast' --deterministic
train fixed-2 'split slow fast' --deterministic
ok 'training with --deterministic does not depend on the fastest algorithm' weights fixed-1 fixed-2
train timed-1 'slow'
train timed-2 'slow split'
ok '... and without it does' python "
one, two = (tensors('$tmp/' + run + '/latest.safetensors') for run in ('timed-1', 'timed-2'))
assert any(not np.array_equal(one[n], two[n]) for n in one)"
rm "$tmp/log"
train fixed-1 'split slow fast' --resume --steps 3
is 'a resumed training stays deterministic' "$(products split)" 1
is '... and times nothing' "$(products ms)" 0.0000
rm "$tmp/log"
train fixed-2 'split slow fast' --resume --steps 3 --no-deterministic
is '... unless it is told otherwise' "$(products ms | grep -c '^0.0000$')" 0

# Timing the gradient of the modulations' weights takes an array of its size.
rm "$tmp/log"
export CUDASIM_NO_ALLOCATION=$((512 * 64 * 4))
exits 'training where there is no memory to time a product that accumulates' 0 train small 'slow fast'
unset CUDASIM_NO_ALLOCATION
is '... goes on by the first algorithm' "$(awk -F'\t' '$7 == "add" && $13 == "chosen" && $2 * $3 == 512 * 64 { print $11 }' "$tmp/log")" 0.0000
done_testing
