// The part of CUDA that the plug-in uses, on the CPU. SPDX-License-Identifier: MIT
#ifndef CUDASIM_CUDA_RUNTIME_H
#define CUDASIM_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <type_traits>

#include <vector_types.h>

// There is no __shared__: SHARED and SHARED_DYNAMIC of kernels/cuda/cuda.h take its place.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

#include <cudasim_device.h>
#include <cudasim_host.h>
#include <cudasim_math.h>

#endif
