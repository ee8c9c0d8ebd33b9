#!/bin/sh
# The operations of the CUDA plug-in that compute in tf32 agree with ref, in the simulator; the others are
# those of float32. With few multiprocessors even small arrays get large tiles. SPDX-License-Identifier: MIT
build=${B:-build}
products=linear,linear_gelu,linear_backward_input,linear_backward_input_gelu,linear_backward_weight
export DIT_CUDA_PLUGIN="$build/lib/dit-cuda-sim.so" CUDASIM_MULTIPROCESSORS=4
exec "$build/tests/check-ops" --backend cuda,tf32 --only $products,conv3x3
