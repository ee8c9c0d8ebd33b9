// Measures the peak rate of a product's multiply-adds, with which logs and benchmarks compare their
// FLOP/s. SPDX-License-Identifier: MIT
#include "kernels/cpu/real.h"
#include "lib/base/clock.h"

// Independent chains of multiply-adds: enough to hide the latency of two pipelines, or of four,
// which some processors with 32 registers have.
#define CHAINS (REGISTERS == 32 ? 20 : 10)
#define ROUNDS 10000
#define RUNS   100 // of so many rounds, for each thread

INLINE vec step_chain(vec sum, vec step)
{
    return PAIRS ? vec_add_pairs(sum, (vec_bits)step, (vec_bits)step)
                 : vec_multiply_add(0.999f, sum, step);
}

static float run_chains(void)
{
    vec sums[CHAINS], step = {1e-3f};
    for (int i = 0; i < CHAINS; i++)
        sums[i] = step * (float)i;
    for (int round = 0; round < ROUNDS; round++)
#pragma GCC unroll 20
        for (int i = 0; i < CHAINS; i++)
            sums[i] = step_chain(sums[i], step);
    for (int i = 1; i < CHAINS; i++)
        sums[0] += sums[i];
    return sums[0][0];
}

static void run_chains_of_range(const void *context, struct team_range range)
{
    float *const *results = context;
    for (size_t i = range.first; i < range.end; i++)
        (*results)[i] = run_chains();
}

double CPU_FN(peak_flops)(struct device *device)
{
    double best = 0;
    const size_t runs = RUNS * (size_t)device->threads;
    float *results = ISA_FN(scratch)(device, runs);
    for (int attempt = 0; results && attempt < 3; attempt++) {
        double start = clock_seconds();
        team_for(device->team, runs, 1, run_chains_of_range, &results);
        double seconds = clock_seconds() - start;
        double flops = 2.0 * STEP * LANES * CHAINS * ROUNDS * (double)runs / seconds;
        best = flops > best ? flops : best;
    }
    return best;
}
