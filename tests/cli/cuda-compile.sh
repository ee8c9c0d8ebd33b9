#!/bin/sh
# nvcc compiles what the simulator compiles, so the simulator runs real CUDA. SPDX-License-Identifier: MIT
. tests/tap.sh

nvcc=$(command -v nvcc || command -v /usr/local/cuda/bin/nvcc)
if [ -n "$nvcc" ] && why=$(kernels/cuda/probe.sh "$nvcc"); then
    exits 'nvcc compiles what the simulator runs' 0 "$nvcc" -std=c++17 -arch=sm_80 -I. \
        -Werror all-warnings -cubin -o "$tmp/cubin" tests/cudasim/tests/cuda-primitives.cu
else
    skip 'nvcc compiles what the simulator runs' "${why:-no nvcc here}"
fi
done_testing
