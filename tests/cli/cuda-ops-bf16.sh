#!/bin/sh
# Every operation of the CUDA plug-in agrees with ref in bf16, in the simulator, and gives the same bits
# when its threads run in another order. With few multiprocessors even small arrays get large tiles.
# SPDX-License-Identifier: MIT
build=${B:-build}
export DIT_CUDA_PLUGIN="$build/lib/dit-cuda-sim.so" CUDASIM_MULTIPROCESSORS=4
exec "$build/tests/check-ops" --backend cuda,bf16 --repeat
