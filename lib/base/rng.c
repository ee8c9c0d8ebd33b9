// Random numbers on the host, from Philox blocks. SPDX-License-Identifier: MIT
#include "lib/base/rng.h"

#include <assert.h>
#include <math.h>

static void block_of(const struct rng *rng, uint64_t element, uint32_t words[4])
{
    assert(element / 4 <= UINT32_MAX && rng->sample >> 56 == 0);
    philox_block(rng->seed, rng->purpose, rng->step, rng->sample, (uint32_t)(element / 4), words);
}

uint32_t rng_u32(const struct rng *rng, uint64_t element)
{
    uint32_t words[4];
    block_of(rng, element, words);
    return words[element % 4];
}

uint64_t rng_below(const struct rng *rng, uint64_t element, uint64_t n)
{
    uint32_t words[4];
    block_of(rng, 2 * element, words);
    const uint32_t *pair = words + 2 * element % 4;
    uint64_t u = pair[0] | (uint64_t)pair[1] << 32;
    return (uint64_t)((unsigned __int128)u * n >> 64);
}

double rng_uniform(const struct rng *rng, uint64_t element)
{
    return philox_uniform(rng_u32(rng, element));
}

double rng_normal(const struct rng *rng, uint64_t element)
{
    uint32_t words[4];
    block_of(rng, element, words);
    const uint32_t *pair = words + (element % 4 & 2);
    double r = sqrt(-2 * log(philox_uniform(pair[0])));
    double angle = 2 * M_PI * philox_uniform(pair[1]);
    return element % 2 ? r * sin(angle) : r * cos(angle);
}
