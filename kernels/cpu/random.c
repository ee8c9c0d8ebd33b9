// Fills arrays with normally distributed numbers. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "lib/base/philox.h"

// (word + 0.5) / 2^32, for words below 2^31, which convert to float faster as signed numbers.
INLINE float uniform_of(uint32_t word)
{
    return ((float)(int32_t)word + 0.5f) * 0x1p-32f;
}

// sqrt(-2 log u) for u = (word + 0.5) / 2^32. If u is near 1, float holds 1 - u exactly but not u,
// so the logarithm is computed from 1 - u.
INLINE float normal_radius(uint32_t word)
{
    const int near_one = word >= 0xc0000000u;
    const float above = uniform_of(~word & 0x7fffffffu), half = uniform_of(word >> 1) * 2.0f;
    const float low = word < 0x80000000u ? uniform_of(word & 0x7fffffffu) : half;
    const float log = near_one ? simd_log_near_one(near_one ? -above : 0.0f) : simd_log(low);
    return sqrtf(-2.0f * log);
}

// Two normal numbers of a pair of words: the radius times the cosine and sine of 2 pi u.
INLINE void box_muller(uint32_t word0, uint32_t word1, float *first, float *second)
{
    const float r = normal_radius(word0);
    // The nearest multiple of a quarter turn, and the angle from there.
    const uint32_t turn = word1 + 0x20000000u;
    const int32_t rest = (int32_t)(turn & 0x3fffffffu) - 0x20000000;
    const float angle = ((float)rest + 0.5f) * 1.4629180792671596e-9f; // 2 pi / 2^32
    const float s = simd_sin(angle), c = simd_cos(angle);
    const uint32_t odd = turn >> 30 & 1, flip_sin = turn & 0x80000000u;
    const uint32_t flip_cos = flip_sin ^ odd << 31;
    *first = r * float_from_bits(float_bits(odd ? s : c) ^ flip_cos);
    *second = r * float_from_bits(float_bits(odd ? c : s) ^ flip_sin);
}

#define BLOCKS 32 // blocks of four numbers that are computed together, so that loops vectorise

struct normal_numbers {
    float *x; // (B,n)
    uint64_t seed, first;
    uint32_t purpose, step;
    size_t n, groups; // groups of a sample: each has 4 BLOCKS numbers, the last may have fewer
};

static void fill_groups(const void *context, struct team_range range)
{
    const struct normal_numbers *p = context;
    for (size_t group = range.first; group < range.end; group++) {
        const size_t at = group % p->groups * 4 * BLOCKS;
        const uint64_t sample = p->first + group / p->groups;
        float normal[4 * BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            uint32_t word[4];
            philox_block(p->seed, p->purpose, p->step, sample, (uint32_t)(at / 4 + i), word);
            box_muller(word[0], word[1], &normal[4 * i], &normal[4 * i + 1]);
            box_muller(word[2], word[3], &normal[4 * i + 2], &normal[4 * i + 3]);
        }
        const size_t count = min(p->n - at, 4 * BLOCKS);
        memcpy(p->x + group / p->groups * p->n + at, normal, count * sizeof *normal);
    }
}

void ISA_FN(fill_normal)(struct device *device, float *x, uint64_t seed, uint32_t purpose,
                         uint32_t step, uint64_t first, size_t B, size_t n)
{
    const struct normal_numbers p = {x, seed, first, purpose, step, n, divide_up(n, 4 * BLOCKS)};
    team_for(team_of(device, 8 * B * n), B * p.groups, 4, fill_groups, &p);
}
