// Philox 4x32-10, a counter-based random number generator, for host and CUDA code alike.
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// SPDX-License-Identifier: MIT
#ifndef DIT_PHILOX_H
#define DIT_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define PHILOX_FN static inline __host__ __device__
#else
#define PHILOX_FN static inline
#endif

PHILOX_FN void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1, c3 = (uint32_t)p0, c0 = n0, c2 = n2;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// The words of elements 4 * block .. 4 * block + 3, by the counter layout of lib/base/rng.h.
PHILOX_FN void philox_block(uint64_t seed, uint32_t purpose, uint32_t step, uint64_t sample,
                            uint32_t block, uint32_t out[4])
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {block, step, (uint32_t)sample,
                           purpose << 24 | (uint32_t)(sample >> 32 & 0xFFFFFF)};
    philox4x32(key, counter, out);
}

// Maps a word to a uniform number in the open interval (0, 1), without rounding.
PHILOX_FN double philox_uniform(uint32_t word)
{
    return (word + 0.5) * (1.0 / 4294967296.0);
}

// Uniform in [0, n), with a bias below n / 2^64, from the first two words of the sample's block 0.
PHILOX_FN uint64_t philox_below(uint64_t seed, uint32_t purpose, uint32_t step, uint64_t sample,
                                uint32_t n)
{
    uint32_t words[4];
    philox_block(seed, purpose, step, sample, 0, words);
    // The upper 32 bits of the 96-bit product.
    return ((uint64_t)words[1] * n + ((uint64_t)words[0] * n >> 32)) >> 32;
}

#endif
