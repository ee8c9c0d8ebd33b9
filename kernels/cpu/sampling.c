// Noise for latents, guidance and the steps of samplers. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

struct latent_draw {
    float *x;
    const float *mean, *std, *noise;
};

static void draw_elements(const void *context, struct team_range range)
{
    const struct latent_draw *p = context;
    float *x = p->x;
    const float *mean = p->mean, *std = p->std, *noise = p->noise;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++)
        x[i] = mean[i] + std[i] * noise[i];
}

void ISA_FN(latent_draw)(struct device *device, float *x, const float *mean, const float *std,
                         const float *noise, size_t n)
{
    const struct latent_draw p = {x, mean, std, noise};
    team_for(team_of(device, n), n, GRAIN, draw_elements, &p);
}

struct noising {
    float *xt;
    const float *x0, *noise;
    const struct diffusion_terms *terms;
    size_t n;
};

static void diffuse_samples(const void *context, struct team_range range)
{
    const struct noising *p = context;
    float *xt = p->xt;
    const float *x0 = p->x0, *noise = p->noise;
    for (size_t b = range.first; b < range.end; b++) {
        const float s = p->terms[b].signal, t = p->terms[b].noise;
#pragma omp simd
        for (size_t i = b * p->n; i < (b + 1) * p->n; i++)
            xt[i] = s * x0[i] + t * noise[i];
    }
}

void ISA_FN(diffuse)(struct device *device, float *xt, const float *x0, const float *noise,
                     const struct diffusion_terms *terms, size_t B, size_t n)
{
    const struct noising p = {xt, x0, noise, terms, n};
    team_for(team_of(device, B * n), B, 1, diffuse_samples, &p);
}

static double deviation(const float *x, size_t n)
{
    double sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    const double mean = sum / (double)n;
#pragma omp simd reduction(+ : square)
    for (size_t i = 0; i < n; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sqrt(square / (double)n);
}

struct guided_rows {
    float *out;
    float scale, rescale;
    size_t guided, all, stride, B; // guided and all elements of a row
};

static void guide_rows(const void *context, struct team_range range)
{
    const struct guided_rows *p = context;
    const float scale = p->scale;
    for (size_t b = range.first; b < range.end; b++) {
        float *row = p->out + b * p->stride;
        const float *away = p->out + (p->B + b) * p->stride;
        const double before = p->rescale > 0 ? deviation(row, p->all) : 0;
#pragma omp simd
        for (size_t i = 0; i < p->guided; i++)
            row[i] = away[i] + scale * (row[i] - away[i]);
        if (p->rescale > 0) {
            const double after = deviation(row, p->all);
            const float factor =
                after > 0 ? (float)(p->rescale * before / after) + 1 - p->rescale : 1;
#pragma omp simd
            for (size_t i = 0; i < p->all; i++)
                row[i] *= factor;
        }
    }
}

void ISA_FN(guide)(struct device *device, float *out, float scale, float rescale, size_t guided,
                   size_t stride, size_t B, size_t C, size_t n)
{
    const struct guided_rows p = {out, scale, rescale, guided * n, C * n, stride, B};
    team_for(team_of(device, B * guided * n), B, 1, guide_rows, &p);
}

enum step_noise { NOISE_NONE, NOISE_FIXED, NOISE_LEARNED };

// One sample's step; its states are `distance` floats apart. K and `kind` are constants in each
// call, so that the loop has no branches.
INLINE void step_of_sample(float *states, const float *out, const float *noise,
                           const struct sampler_step *p, size_t K, size_t distance, size_t n,
                           enum step_noise kind)
{
    const float log_max = p->log_max, log_min = p->log_min, sigma = p->sigma;
    float c[SAMPLER_STATES][SAMPLER_STATES], from_out[SAMPLER_STATES];
    memcpy(c, p->state, sizeof c);
    memcpy(from_out, p->out, sizeof from_out);
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float now[SAMPLER_STATES], next[SAMPLER_STATES];
        for (size_t k = 0; k < K; k++)
            now[k] = states[k * distance + i];
        for (size_t k = 0; k < K; k++) {
            next[k] = out ? from_out[k] * out[i] : 0;
            for (size_t j = 0; j < K; j++)
                next[k] += c[k][j] * now[j];
        }
        if (kind == NOISE_LEARNED) {
            float f = 0.5f * (out[n + i] + 1), logvar = f * log_max + (1 - f) * log_min;
            next[0] += simd_exp(0.5f * logvar) * noise[i];
        } else if (kind == NOISE_FIXED) {
            next[0] += sigma * noise[i];
        }
        for (size_t k = 0; k < K; k++)
            states[k * distance + i] = next[k];
    }
}

INLINE void step_of_kind(float *states, const float *out, const float *noise,
                         const struct sampler_step *p, size_t K, size_t distance, size_t n)
{
    if (p->learned)
        step_of_sample(states, out, noise, p, K, distance, n, NOISE_LEARNED);
    else if (p->sigma > 0)
        step_of_sample(states, out, noise, p, K, distance, n, NOISE_FIXED);
    else
        step_of_sample(states, out, noise, p, K, distance, n, NOISE_NONE);
}

struct sampling {
    float *states;
    const float *out, *noise;
    const struct sampler_step *step;
    size_t K, stride, B, n;
};

static void step_samples(const void *context, struct team_range range)
{
    const struct sampling *p = context;
    const size_t n = p->n, distance = p->B * n;
    for (size_t b = range.first; b < range.end; b++) {
        float *to = p->states + b * n;
        const float *from = p->out ? p->out + b * p->stride : NULL, *noise = p->noise + b * n;
        if (p->K == 1)
            step_of_kind(to, from, noise, p->step, 1, distance, n);
        else if (p->K == 2)
            step_of_kind(to, from, noise, p->step, 2, distance, n);
        else if (p->K == 4)
            step_of_kind(to, from, noise, p->step, 4, distance, n);
        else
            step_of_kind(to, from, noise, p->step, p->K, distance, n);
    }
}

void ISA_FN(sample_step)(struct device *device, float *states, const float *out, const float *noise,
                         const struct sampler_step *step, size_t K, size_t stride, size_t B,
                         size_t n)
{
    const struct sampling p = {states, out, noise, step, K, stride, B, n};
    team_for(team_of(device, B * K * n), B, 1, step_samples, &p);
}
