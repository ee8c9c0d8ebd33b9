// Random numbers without state: Philox 4x32-10. SPDX-License-Identifier: MIT
//
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A draw is named by
// (seed, purpose, step, sample, element); so it depends on no batch size, thread, part or rank,
// and a resumed run draws what the unbroken one would have drawn. Kernels draw the same numbers
// (op_fill_normal) from the same counter layout:
//   key = seed (low, high word)
//   counter = element / 4, step, sample (low word), purpose << 24 | sample >> 32 (24 bits)
//   the value of element e is word e % 4 of the block.
#ifndef DIT_RNG_H
#define DIT_RNG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/philox.h"

enum rng_purpose {
    RNG_INIT = 1,     // initial weights; sample = number of the tensor
    RNG_TIME,         // training: time step t
    RNG_DROP,         // training: label dropout
    RNG_NOISE,        // training: the diffusion noise
    RNG_LATENT,       // the noise of mean + std * noise
    RNG_FLIP,         // training: which of the two flips
    RNG_ORDER,        // shuffles; step = epoch
    RNG_SAMPLE_START, // sampling: x_T
    RNG_SAMPLE_NOISE, // sampling: noise of a step
    RNG_SAMPLE_CLASS, // sampling: random classes
    RNG_TEST,
};

struct rng {
    uint64_t seed;
    uint32_t purpose; // enum rng_purpose
    uint32_t step;
    uint64_t sample; // < 2^56
};

uint32_t rng_u32(const struct rng *rng, uint64_t element);
// Uniform in [0, n), with a bias below n / 2^64; takes the words of elements 2e and 2e + 1.
uint64_t rng_below(const struct rng *rng, uint64_t element, uint64_t n);
double rng_uniform(const struct rng *rng, uint64_t element); // (0,1), 32 bits: (u + 0.5) / 2^32
// Standard normal, by Box and Muller on words (0,1) and (2,3) of the element's block:
// r = sqrt(-2 log u0), r cos(2 pi u1), r sin(2 pi u1).
double rng_normal(const struct rng *rng, uint64_t element);

#endif
