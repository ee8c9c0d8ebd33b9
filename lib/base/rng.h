// Random numbers without state. SPDX-License-Identifier: MIT
//
// Each number is a function of (seed, purpose, step, sample, element). So it doesn't depend on the
// batch size, thread, part or rank, and a resumed run draws the same numbers as one that was never
// stopped. Kernels (op_fill_normal) draw the same numbers. They come from Philox 4x32-10
// (philox.h):
//   key = seed (low, high word)
//   counter = element / 4, step, sample (low word), purpose << 24 | sample >> 32 (24 bits)
//   element e is word e % 4 of the block.
#ifndef DIT_RNG_H
#define DIT_RNG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/philox.h"

enum rng_purpose {
    RNG_INIT = 1,     // initial weights; sample = index of the tensor
    RNG_TIME,         // training: time step t
    RNG_DROP,         // training: label dropout
    RNG_NOISE,        // training: the diffusion noise
    RNG_LATENT,       // the noise of mean + std * noise
    RNG_FLIP,         // training: whether to take the mirrored latent
    RNG_ORDER,        // shuffles; step = epoch
    RNG_SAMPLE_START, // sampling: x_T
    RNG_SAMPLE_NOISE, // sampling: noise of a step
    RNG_SAMPLE_CLASS, // sampling: random classes
    RNG_TEST,
    RNG_SUBSET, // evaluation: subsets of KID; step = subset, sample = set
};

struct rng {
    uint64_t seed;
    uint32_t purpose; // enum rng_purpose
    uint32_t step;
    uint64_t sample; // < 2^56
};

uint32_t rng_u32(const struct rng *rng, uint64_t element);
// Uniform in [0, n), with a bias below n / 2^64; uses the words of elements 2e and 2e + 1.
uint64_t rng_below(const struct rng *rng, uint64_t element, uint64_t n);
double rng_uniform(const struct rng *rng, uint64_t element); // in (0,1): (word + 0.5) / 2^32
// Standard normal, by the Box-Muller transform of words (0,1) and (2,3) of the element's block:
// with r = sqrt(-2 log u0), elements r cos(2 pi u1) and r sin(2 pi u1).
double rng_normal(const struct rng *rng, uint64_t element);

#endif
