// Converts arrays from channels first to channels last and back; the posterior of the autoencoder.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/real.h"

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
    const float *x_in; // channels first
    float *x, *std;
    const real *y_in; // channels last
    real *y;
    float scale;
    size_t C, n;
};

static void move_channels_last(const void *context, struct team_range range)
{
    const struct channels *p = context;
    for (size_t k = range.first; k < range.end; k++) {
        const struct pixel_block block = find_pixel_block(k, p->n);
        const float *from = p->x_in + block.sample * p->C * p->n;
        real *to = p->y + block.sample * p->n * p->C;
        for (size_t c = 0; c < p->C; c++)
            for (size_t i = block.first; i < block.end; i++)
                to[i * p->C + c] = to_real(from[c * p->n + i]);
    }
}

void CPU_FN(channels_last)(struct device *device, act *y, const float *x, size_t B, size_t C,
                           size_t n)
{
    const struct channels p = {.x_in = x, .y = reals(y), .C = C, .n = n};
    team_for(team_of(device, B * C * n), B * divide_up(n, BLOCK), rows_of_grain(BLOCK * C),
             move_channels_last, &p);
}

static void move_channels_first(const void *context, struct team_range range)
{
    const struct channels *p = context;
    for (size_t k = range.first; k < range.end; k++) {
        const struct pixel_block block = find_pixel_block(k, p->n);
        const real *from = p->y_in + block.sample * p->n * p->C;
        float *to = p->x + block.sample * p->C * p->n;
        for (size_t c = 0; c < p->C; c++)
            for (size_t i = block.first; i < block.end; i++)
                to[c * p->n + i] = to_float(from[i * p->C + c]);
    }
}

void CPU_FN(channels_first)(struct device *device, float *x, const act *y, size_t B, size_t C,
                            size_t n)
{
    const struct channels p = {.y_in = const_reals(y), .x = x, .C = C, .n = n};
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
            const real *from = p->y_in + block.sample * n * 2 * C + c;
            const float scale = p->scale;
            float *m = p->x + (block.sample * C + c) * n, *s = p->std + (block.sample * C + c) * n;
#pragma omp simd
            for (size_t i = block.first; i < block.end; i++) {
                float logvar = to_float(from[i * 2 * C + C]);
                logvar = logvar > -30 ? logvar : -30; // also for NaN
                logvar = logvar < 20 ? logvar : 20;
                m[i] = scale * to_float(from[i * 2 * C]);
                s[i] = scale * simd_exp(0.5f * logvar);
            }
        }
    }
}

void CPU_FN(posterior)(struct device *device, float *mean, float *std, const act *moments,
                       float scale, size_t B, size_t C, size_t n)
{
    const struct channels p = {
        .y_in = const_reals(moments), .x = mean, .std = std, .scale = scale, .C = C, .n = n};
    team_for(team_of(device, B * C * n), B * divide_up(n, BLOCK), rows_of_grain(BLOCK * C),
             find_posteriors, &p);
}
