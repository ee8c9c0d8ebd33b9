#!/bin/sh
# Every operation of the CUDA plug-in, in float32, agrees with ref: in the simulator, which has few
# multiprocessors here, so that little work is enough for large tiles. SPDX-License-Identifier: MIT
build=${B:-build}
export DIT_CUDA_PLUGIN="$build/lib/dit-cuda-sim.so" CUDASIM_MULTIPROCESSORS=4
exec "$build/tests/check-ops" --backend cuda,f32
