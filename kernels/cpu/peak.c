// Measures the peak rate of multiply-adds, with which logs and benchmarks compare their FLOP/s.
// SPDX-License-Identifier: MIT
#include <omp.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

// Independent chains of multiply-adds: enough to hide the latency of two pipelines.
#define CHAINS 10
#define ROUNDS 1000000

static float run_chains(float factor)
{
    vec sums[CHAINS], step = {1e-3f};
    for (int i = 0; i < CHAINS; i++)
        sums[i] = step * (float)i;
    for (int round = 0; round < ROUNDS; round++)
#pragma GCC unroll 10
        for (int i = 0; i < CHAINS; i++)
            sums[i] = vec_multiply_add(factor, sums[i], step);
    for (int i = 1; i < CHAINS; i++)
        sums[0] += sums[i];
    return sums[0][0];
}

double CPU_FN(peak_flops)(struct device *device)
{
    double best = 0;
    float sink = 0;
    for (int attempt = 0; attempt < 3; attempt++) {
        double start = omp_get_wtime();
#pragma omp parallel num_threads(device->threads) reduction(+ : sink)
        sink += run_chains(0.999f);
        double seconds = omp_get_wtime() - start;
        double flops = 2.0 * LANES * CHAINS * ROUNDS * device->threads / seconds;
        best = flops > best && sink < 1e30f ? flops : best;
    }
    return best;
}
