// AdamW, and the sum of squares for the norm of the gradient. SPDX-License-Identifier: MIT
#include "kernels/cpu/real.h"

// Elements of a block. Sums over blocks are added in order, so that the result does not depend on
// the number of threads.
#define BLOCK 16384

struct square_sums {
    const float *x;
    double *sums; // of each block
    size_t n;
};

static void sum_squares_of_blocks(const void *context, struct team_range range)
{
    const struct square_sums *p = context;
    const float *x = p->x;
    for (size_t b = range.first; b < range.end; b++) {
        double total = 0;
        const size_t end = min((b + 1) * BLOCK, p->n);
#pragma omp simd reduction(+ : total)
        for (size_t i = b * BLOCK; i < end; i++)
            total += (double)x[i] * (double)x[i];
        p->sums[b] = total;
    }
}

void CPU_FN(sum_squares)(struct device *device, double *sum, const float *x, size_t n)
{
    const size_t blocks = divide_up(n, BLOCK);
    double *sums = (double *)(void *)ISA_FN(scratch)(device, 2 * blocks);
    if (!sums)
        return;
    const struct square_sums p = {x, sums, n};
    team_for(device->team, blocks, 1, sum_squares_of_blocks, &p);
    double total = 0;
    for (size_t b = 0; b < blocks; b++)
        total += sums[b];
    *sum = total;
}

struct adamw_step {
    float *w, *ema, *m, *v;
    real *value;
    const float *g;
    float clip, b1, b2, rest1, rest2, rate, v_scale, decay, eps, ema_rest;
};

static void step_elements(const void *context, struct team_range range)
{
    const struct adamw_step p = *(const struct adamw_step *)context;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++) {
        float gi = p.g[i] * p.clip;
        p.m[i] = p.b1 * p.m[i] + p.rest1 * gi;
        p.v[i] = p.b2 * p.v[i] + p.rest2 * gi * gi;
        p.w[i] -= p.decay * p.w[i] + p.rate * p.m[i] / (sqrtf(p.v[i] * p.v_scale) + p.eps);
        p.ema[i] += p.ema_rest * (p.w[i] - p.ema[i]);
        p.value[i] = to_real(p.w[i]);
    }
}

void CPU_FN(adamw)(struct device *device, float *w, act *value, float *ema, float *m, float *v,
                   const float *g, const double *norm2, const struct adamw *p, size_t n)
{
    if (!isfinite(*norm2))
        return;
    const double step = (double)p->step;
    const struct adamw_step s = {
        .w = w,
        .value = reals(value),
        .ema = ema,
        .m = m,
        .v = v,
        .g = g,
        .clip = (float)(p->max_norm > 0 ? fmin(1, p->max_norm / sqrt(*norm2)) : 1),
        .b1 = p->beta1,
        .b2 = p->beta2,
        .rest1 = (float)(1 - (double)p->beta1),
        .rest2 = (float)(1 - (double)p->beta2),
        .rate = (float)(p->lr / (1 - pow(p->beta1, step))),
        .v_scale = (float)(1 / (1 - pow(p->beta2, step))),
        .decay = (float)((double)p->lr * p->weight_decay),
        .eps = p->eps,
        .ema_rest = (float)(1 - p->ema_decay),
    };
    team_for(team_of(device, n), n, GRAIN, step_elements, &s);
}

struct averaging {
    float *average;
    const float *w;
    float rest; // the share of w
};

static void average_elements(const void *context, struct team_range range)
{
    const struct averaging *p = context;
    float *average = p->average;
    const float *w = p->w, rest = p->rest;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++)
        average[i] += rest * (w[i] - average[i]);
}

void CPU_FN(average)(struct device *device, float *average, const float *w, const double *norm2,
                     double decay, size_t n)
{
    const struct averaging p = {average, w, (float)(1 - decay)};
    if (isfinite(*norm2))
        team_for(team_of(device, n), n, GRAIN, average_elements, &p);
}
