#!/bin/sh
# Every operation of the CUDA plug-in agrees with ref in float32, in the simulator. With few
# multiprocessors even small arrays get large tiles. SPDX-License-Identifier: MIT
build=${B:-build}
export DIT_CUDA_PLUGIN="$build/lib/dit-cuda-sim.so" CUDASIM_MULTIPROCESSORS=4
exec "$build/tests/check-ops" --backend cuda,f32
