// AdamW, and the sum of squares for the norm of the gradient. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

// Elements of a block. Sums over blocks are added in order, so that the result does not depend on
// the number of threads.
#define BLOCK 16384

void CPU_FN(sum_squares)(struct device *device, double *sum, const float *x, size_t n)
{
    const size_t blocks = divide_up(n, BLOCK);
    double *sums = (double *)(void *)CPU_FN(scratch)(device, 2 * blocks);
    if (!sums)
        return;
#pragma omp parallel for num_threads(threads_for(device, n))
    for (size_t b = 0; b < blocks; b++) {
        double total = 0;
        const size_t end = min((b + 1) * BLOCK, n);
#pragma omp simd reduction(+ : total)
        for (size_t i = b * BLOCK; i < end; i++)
            total += (double)x[i] * (double)x[i];
        sums[b] = total;
    }
    double total = 0;
    for (size_t b = 0; b < blocks; b++)
        total += sums[b];
    *sum = total;
}

void CPU_FN(adamw)(struct device *device, float *w, act *value, float *ema, float *m, float *v,
                   const float *g, const double *norm2, const struct adamw *p, size_t n)
{
    if (!isfinite(*norm2))
        return;
    const double step = (double)p->step;
    const float clip = (float)(p->max_norm > 0 ? fmin(1, p->max_norm / sqrt(*norm2)) : 1);
    const float b1 = p->beta1, b2 = p->beta2;
    const float rest1 = (float)(1 - (double)b1), rest2 = (float)(1 - (double)b2);
    const float rate = (float)(p->lr / (1 - pow(b1, step)));
    const float v_scale = (float)(1 / (1 - pow(b2, step)));
    const float decay = (float)((double)p->lr * p->weight_decay), eps = p->eps;
    const float ema_rest = (float)(1 - p->ema_decay);
    float *copy = floats(value);
#pragma omp parallel for simd num_threads(threads_for(device, n))
    for (size_t i = 0; i < n; i++) {
        float gi = g[i] * clip;
        m[i] = b1 * m[i] + rest1 * gi;
        v[i] = b2 * v[i] + rest2 * gi * gi;
        w[i] -= decay * w[i] + rate * m[i] / (sqrtf(v[i] * v_scale) + eps);
        ema[i] += ema_rest * (w[i] - ema[i]);
        copy[i] = w[i];
    }
}
