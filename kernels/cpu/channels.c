// Converts arrays from channels first to channels last and back; the posterior of the autoencoder.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#define BLOCK 64 // pixels at a time, few enough that all their channels stay in the cache

struct pixel_block {
    size_t sample, first, end; // pixels first .. end - 1 of the sample
};

INLINE struct pixel_block find_pixel_block(size_t number, size_t n)
{
    const size_t blocks = divide_up(n, BLOCK), first = number % blocks * BLOCK;
    return (struct pixel_block){number / blocks, first, min(first + BLOCK, n)};
}

// The arguments that all blocks of a call share.
struct channels {
    const float *from;
    float *to, *std;
    float scale;
    size_t C, n;
};

static void move_channels_last(const void *context, struct team_range range)
{
    const struct channels *p = context;
    for (size_t k = range.first; k < range.end; k++) {
        const struct pixel_block block = find_pixel_block(k, p->n);
        const float *from = p->from + block.sample * p->C * p->n;
        float *to = p->to + block.sample * p->n * p->C;
        for (size_t c = 0; c < p->C; c++)
            for (size_t i = block.first; i < block.end; i++)
                to[i * p->C + c] = from[c * p->n + i];
    }
}

void CPU_FN(channels_last)(struct device *device, act *y, const float *x, size_t B, size_t C,
                           size_t n)
{
    const struct channels p = {.from = x, .to = floats(y), .C = C, .n = n};
    team_for(team_of(device, B * C * n), B * divide_up(n, BLOCK), rows_of_grain(BLOCK * C),
             move_channels_last, &p);
}

static void move_channels_first(const void *context, struct team_range range)
{
    const struct channels *p = context;
    for (size_t k = range.first; k < range.end; k++) {
        const struct pixel_block block = find_pixel_block(k, p->n);
        const float *from = p->from + block.sample * p->n * p->C;
        float *to = p->to + block.sample * p->C * p->n;
        for (size_t c = 0; c < p->C; c++)
            for (size_t i = block.first; i < block.end; i++)
                to[c * p->n + i] = from[i * p->C + c];
    }
}

void CPU_FN(channels_first)(struct device *device, float *x, const act *y, size_t B, size_t C,
                            size_t n)
{
    const struct channels p = {.from = const_floats(y), .to = x, .C = C, .n = n};
    team_for(team_of(device, B * C * n), B * divide_up(n, BLOCK), rows_of_grain(BLOCK * C),
             move_channels_first, &p);
}

static void find_posteriors(const void *context, struct team_range range)
{
    const struct channels *p = context;
    const size_t C = p->C, n = p->n;
    for (size_t k = range.first; k < range.end; k++) {
        const struct pixel_block block = find_pixel_block(k, n);
        for (size_t c = 0; c < C; c++) {
            const float *from = p->from + block.sample * n * 2 * C + c, scale = p->scale;
            float *m = p->to + (block.sample * C + c) * n, *s = p->std + (block.sample * C + c) * n;
#pragma omp simd
            for (size_t i = block.first; i < block.end; i++) {
                float logvar = from[i * 2 * C + C];
                logvar = logvar > -30 ? logvar : -30; // also for NaN
                logvar = logvar < 20 ? logvar : 20;
                m[i] = scale * from[i * 2 * C];
                s[i] = scale * simd_exp(0.5f * logvar);
            }
        }
    }
}

void CPU_FN(posterior)(struct device *device, float *mean, float *std, const act *moments,
                       float scale, size_t B, size_t C, size_t n)
{
    const struct channels p = {const_floats(moments), mean, std, scale, C, n};
    team_for(team_of(device, B * C * n), B * divide_up(n, BLOCK), rows_of_grain(BLOCK * C),
             find_posteriors, &p);
}
