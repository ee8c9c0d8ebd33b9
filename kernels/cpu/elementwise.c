// Operations on single elements. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

void CPU_FN(silu)(struct device *device, act *y, const act *x, size_t n)
{
    float *to = floats(y);
    const float *from = const_floats(x);
#pragma omp parallel for simd num_threads(threads_for(device, n))
    for (size_t i = 0; i < n; i++)
        to[i] = from[i] * simd_sigmoid(from[i]);
}

void CPU_FN(gelu)(struct device *device, act *y, const act *x, size_t n)
{
    float *to = floats(y);
    const float *from = const_floats(x);
#pragma omp parallel for simd num_threads(threads_for(device, n))
    for (size_t i = 0; i < n; i++)
        to[i] = simd_gelu(from[i]);
}

void CPU_FN(silu_backward)(struct device *device, act *dx, const act *dy, const act *x, size_t n)
{
    float *to = floats(dx);
    const float *dfrom = const_floats(dy), *from = const_floats(x);
#pragma omp parallel for simd num_threads(threads_for(device, n))
    for (size_t i = 0; i < n; i++) {
        float s = simd_sigmoid(from[i]);
        to[i] = dfrom[i] * s * (1 + from[i] * (1 - s));
    }
}

void CPU_FN(add_row)(struct device *device, act *x, const act *row, size_t B, size_t n)
{
    float *to = floats(x);
    const float *add = const_floats(row);
#pragma omp parallel num_threads(threads_for(device, B *n))
    for (size_t b = 0; b < B; b++)
#pragma omp for simd nowait
        for (size_t i = 0; i < n; i++)
            to[b * n + i] += add[i];
}

void CPU_FN(to_act)(struct device *device, act *y, const float *x, size_t n)
{
    float *to = floats(y);
#pragma omp parallel for simd num_threads(threads_for(device, n))
    for (size_t i = 0; i < n; i++)
        to[i] = x[i];
}

void CPU_FN(embedding_add)(struct device *device, act *y, const act *x, const act *table,
                           const int32_t *labels, size_t B, size_t D)
{
#pragma omp parallel for num_threads(threads_for(device, B *D))
    for (size_t b = 0; b < B; b++) {
        const float *from = const_floats(x) + b * D;
        const float *add = const_floats(table) + (size_t)labels[b] * D;
        float *to = floats(y) + b * D;
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            to[d] = from[d] + add[d];
    }
}

void CPU_FN(latent_draw)(struct device *device, float *x, const float *mean, const float *std,
                         const float *noise, size_t n)
{
#pragma omp parallel for simd num_threads(threads_for(device, n))
    for (size_t i = 0; i < n; i++)
        x[i] = mean[i] + std[i] * noise[i];
}

void CPU_FN(diffuse)(struct device *device, float *xt, const float *x0, const float *noise,
                     const struct diffusion_terms *terms, size_t B, size_t n)
{
#pragma omp parallel for num_threads(threads_for(device, B *n))
    for (size_t b = 0; b < B; b++) {
        const float s = terms[b].signal, t = terms[b].noise;
#pragma omp simd
        for (size_t i = b * n; i < (b + 1) * n; i++)
            xt[i] = s * x0[i] + t * noise[i];
    }
}

void CPU_FN(guide)(struct device *device, float *out, float scale, size_t guided, size_t B,
                   size_t C, size_t n)
{
#pragma omp parallel for num_threads(threads_for(device, B *guided *n))
    for (size_t b = 0; b < B; b++) {
        float *cond = out + b * 2 * C * n;
        const float *uncond = out + (B + b) * 2 * C * n;
#pragma omp simd
        for (size_t i = 0; i < guided * n; i++)
            cond[i] = uncond[i] + scale * (cond[i] - uncond[i]);
    }
}

// One sample's step. learned and last are constants in each call, so that the loop has no branches.
INLINE void sample_step_of_one(float *x, const float *out, const float *noise,
                               const struct sampler_step *p, size_t n, bool learned, bool last)
{
    const float x0_x = p->x0_x, x0_eps = p->x0_eps, sigma = p->sigma;
    const float mean_x0 = p->mean_x0, mean_x = p->mean_x, mean_eps = p->mean_eps;
    const float log_max = p->log_max, log_min = p->log_min;
    const float *eps = out, *v = out + n;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float x0 = x0_x * x[i] - x0_eps * eps[i];
        float mean = mean_x0 * x0 + mean_x * x[i] + mean_eps * eps[i];
        float f = 0.5f * (v[i] + 1), logvar = f * log_max + (1 - f) * log_min;
        float std = learned ? simd_exp(0.5f * logvar) : sigma;
        x[i] = last ? mean : mean + std * noise[i];
    }
}

void CPU_FN(sample_step)(struct device *device, float *x, const float *out, const float *noise,
                         const struct sampler_step *p, size_t B, size_t n)
{
#pragma omp parallel for num_threads(threads_for(device, B *n))
    for (size_t b = 0; b < B; b++) {
        float *to = x + b * n;
        const float *from = out + 2 * b * n;
        if (p->last)
            sample_step_of_one(to, from, NULL, p, n, false, true);
        else if (p->learned)
            sample_step_of_one(to, from, noise + b * n, p, n, true, false);
        else
            sample_step_of_one(to, from, noise + b * n, p, n, false, false);
    }
}
