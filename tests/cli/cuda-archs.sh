#!/bin/sh
# The kernels that are chosen by the GPU's shared memory agree with ref on every kind of GPU, in the
# simulator: 227 KB a block (Hopper), 99 KB (86, 89). SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
export DIT_CUDA_PLUGIN="$BUILD/lib/dit-cuda-sim.so" CUDASIM_MULTIPROCESSORS=4

agrees() { # agrees ARCHITECTURE SEED OPERATION: prints the failures
    CUDASIM_ARCH=$1 SEED=$2 "$BUILD/tests/check-ops" --backend cuda,bf16 --only "$3" >"$tmp/tap" && return
    grep -v '^ok ' "$tmp/tap" | sed 's/^/# /'
    return 1
}
for seed in 1 2; do
    ok "attention_backward on architecture 90, seed $seed" agrees 90 $seed attention_backward
done
ok 'attention_backward on architecture 89' agrees 89 1 attention_backward
ok 'conv3x3 on architecture 86' agrees 86 1 conv3x3
done_testing
