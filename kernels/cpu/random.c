// Normal numbers. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "lib/base/philox.h"

// (word + 0.5) / 2^32, for words below 2^31.
INLINE float uniform(uint32_t word)
{
    return ((float)(int32_t)word + 0.5f) * 0x1p-32f;
}

// sqrt(-2 log u) of u = (word + 0.5) / 2^32. Where u is more than a half its distance from 1 is
// what is known exactly.
INLINE float radius(uint32_t word)
{
    const int near_one = word >= 0xc0000000u;
    const float above = uniform(~word & 0x7fffffffu), half = uniform(word >> 1) * 2.0f;
    const float low = word < 0x80000000u ? uniform(word & 0x7fffffffu) : half;
    const float log = near_one ? simd_log_near_one(near_one ? -above : 0.0f) : simd_log(low);
    return sqrtf(-2.0f * log);
}

// The normal numbers of one pair of words: radius times the sine and cosine of 2 pi u.
INLINE void box_muller(uint32_t word0, uint32_t word1, float *first, float *second)
{
    const float r = radius(word0);
    // The quarter turn nearest, and the angle from there.
    const uint32_t turn = word1 + 0x20000000u;
    const int32_t rest = (int32_t)(turn & 0x3fffffffu) - 0x20000000;
    const float angle = ((float)rest + 0.5f) * 1.4629180792671596e-9f; // 2 pi / 2^32
    const float s = simd_sin(angle), c = simd_cos(angle);
    const uint32_t odd = turn >> 30 & 1, flip_sin = turn & 0x80000000u;
    const uint32_t flip_cos = flip_sin ^ odd << 31;
    *first = r * float_of(bits_of(odd ? s : c) ^ flip_cos);
    *second = r * float_of(bits_of(odd ? c : s) ^ flip_sin);
}

#define BLOCKS 32 // of four numbers, made together

void CPU_FN(fill_normal)(struct device *device, float *x, uint64_t seed, uint32_t purpose,
                         uint32_t step, uint64_t first, size_t B, size_t n)
{
    const size_t groups = (n + 4 * BLOCKS - 1) / (4 * BLOCKS);
#pragma omp parallel for num_threads(threads_for(device, 8 * B * n))
    for (size_t job = 0; job < B * groups; job++) {
        const size_t at = job % groups * 4 * BLOCKS;
        const uint64_t sample = first + job / groups;
        float normal[4 * BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            uint32_t word[4];
            philox_block(seed, purpose, step, sample, (uint32_t)(at / 4 + i), word);
            box_muller(word[0], word[1], &normal[4 * i], &normal[4 * i + 1]);
            box_muller(word[2], word[3], &normal[4 * i + 2], &normal[4 * i + 3]);
        }
        const size_t count = n - at < 4 * BLOCKS ? n - at : 4 * BLOCKS;
        memcpy(x + job / groups * n + at, normal, count * sizeof *x);
    }
}
