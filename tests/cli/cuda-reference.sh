#!/bin/sh
# The CUDA plug-in in the simulator agrees with the published implementations: forward pass, guidance,
# gradients, training, sampling, the autoencoder and random draws. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
export DIT_CUDA_PLUGIN="$BUILD/lib/dit-cuda-sim.so"

agrees() { # agrees TEST DEVICE: prints the failures
    "$BUILD/tests/$1" "$2" >"$tmp/tap" && return
    grep -v '^ok ' "$tmp/tap" | sed 's/^/# /'
    return 1
}
for precision in bf16 tf32 f32; do
    ok "dit-reference in $precision" agrees dit-reference cuda,$precision
    ok "flow-reference in $precision" agrees flow-reference cuda,$precision
done
ok 'draws in f32' agrees draws cuda,f32
ok 'autoencoder-kl in bf16' agrees autoencoder-kl cuda,bf16
done_testing
