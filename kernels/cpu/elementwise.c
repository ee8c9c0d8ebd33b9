// Operations on single elements. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

// The arrays of an operation on n elements; those that it doesn't have are NULL.
struct elements {
    float *to;
    const float *a, *b, *c;
};

static void silu_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    float *to = p->to;
    const float *from = p->a;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++)
        to[i] = from[i] * simd_sigmoid(from[i]);
}

void CPU_FN(silu)(struct device *device, act *y, const act *x, size_t n)
{
    const struct elements p = {.to = floats(y), .a = const_floats(x)};
    team_for(team_of(device, n), n, GRAIN, silu_elements, &p);
}

static void gelu_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    float *to = p->to;
    const float *from = p->a;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++)
        to[i] = simd_gelu(from[i]);
}

void CPU_FN(gelu)(struct device *device, act *y, const act *x, size_t n)
{
    const struct elements p = {.to = floats(y), .a = const_floats(x)};
    team_for(team_of(device, n), n, GRAIN, gelu_elements, &p);
}

static void silu_backward_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    float *to = p->to;
    const float *dfrom = p->a, *from = p->b;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++) {
        float s = simd_sigmoid(from[i]);
        to[i] = dfrom[i] * s * (1 + from[i] * (1 - s));
    }
}

void CPU_FN(silu_backward)(struct device *device, act *dx, const act *dy, const act *x, size_t n)
{
    const struct elements p = {floats(dx), const_floats(dy), const_floats(x), NULL};
    team_for(team_of(device, n), n, GRAIN, silu_backward_elements, &p);
}

struct row_addition {
    float *to; // (B,n)
    const float *row;
    size_t B, n;
};

// Adds a part of the row to all B.
static void add_part_of_row(const void *context, struct team_range range)
{
    const struct row_addition *p = context;
    const float *add = p->row;
    for (size_t b = 0; b < p->B; b++) {
        float *to = p->to + b * p->n;
#pragma omp simd
        for (size_t i = range.first; i < range.end; i++)
            to[i] += add[i];
    }
}

void CPU_FN(add_row)(struct device *device, act *x, const act *row, size_t B, size_t n)
{
    const struct row_addition p = {floats(x), const_floats(row), B, n};
    if (B > 0)
        team_for(team_of(device, B * n), n, rows_of_grain(B), add_part_of_row, &p);
}

static void copy_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    memcpy(p->to + range.first, p->a + range.first, (range.end - range.first) * sizeof *p->to);
}

void CPU_FN(to_act)(struct device *device, act *y, const float *x, size_t n)
{
    const struct elements p = {.to = floats(y), .a = x};
    team_for(team_of(device, n), n, GRAIN, copy_elements, &p);
}

struct embedding_addition {
    float *y;
    const float *x, *table;
    const int32_t *labels;
    size_t D;
};

static void add_embeddings(const void *context, struct team_range range)
{
    const struct embedding_addition *p = context;
    for (size_t b = range.first; b < range.end; b++) {
        const float *from = p->x + b * p->D, *add = p->table + (size_t)p->labels[b] * p->D;
        float *to = p->y + b * p->D;
#pragma omp simd
        for (size_t d = 0; d < p->D; d++)
            to[d] = from[d] + add[d];
    }
}

void CPU_FN(embedding_add)(struct device *device, act *y, const act *x, const act *table,
                           const int32_t *labels, size_t B, size_t D)
{
    const struct embedding_addition p = {floats(y), const_floats(x), const_floats(table), labels,
                                         D};
    team_for(team_of(device, B * D), B, rows_of_grain(D), add_embeddings, &p);
}

static void draw_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    float *x = p->to;
    const float *mean = p->a, *std = p->b, *noise = p->c;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++)
        x[i] = mean[i] + std[i] * noise[i];
}

void CPU_FN(latent_draw)(struct device *device, float *x, const float *mean, const float *std,
                         const float *noise, size_t n)
{
    const struct elements p = {x, mean, std, noise};
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

void CPU_FN(diffuse)(struct device *device, float *xt, const float *x0, const float *noise,
                     const struct diffusion_terms *terms, size_t B, size_t n)
{
    const struct noising p = {xt, x0, noise, terms, n};
    team_for(team_of(device, B * n), B, 1, diffuse_samples, &p);
}

struct guidance {
    float *out;
    float scale;
    size_t guided, B, C, n;
};

static void guide_samples(const void *context, struct team_range range)
{
    const struct guidance *p = context;
    const float scale = p->scale;
    for (size_t b = range.first; b < range.end; b++) {
        float *cond = p->out + b * 2 * p->C * p->n;
        const float *uncond = p->out + (p->B + b) * 2 * p->C * p->n;
#pragma omp simd
        for (size_t i = 0; i < p->guided * p->n; i++)
            cond[i] = uncond[i] + scale * (cond[i] - uncond[i]);
    }
}

void CPU_FN(guide)(struct device *device, float *out, float scale, size_t guided, size_t B,
                   size_t C, size_t n)
{
    const struct guidance p = {out, scale, guided, B, C, n};
    team_for(team_of(device, B * guided * n), B, 1, guide_samples, &p);
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

struct sampling {
    float *x;
    const float *out, *noise;
    const struct sampler_step *step;
    size_t n;
};

static void step_samples(const void *context, struct team_range range)
{
    const struct sampling *p = context;
    const struct sampler_step *step = p->step;
    const size_t n = p->n;
    for (size_t b = range.first; b < range.end; b++) {
        float *to = p->x + b * n;
        const float *from = p->out + 2 * b * n;
        if (step->last)
            sample_step_of_one(to, from, NULL, step, n, false, true);
        else if (step->learned)
            sample_step_of_one(to, from, p->noise + b * n, step, n, true, false);
        else
            sample_step_of_one(to, from, p->noise + b * n, step, n, false, false);
    }
}

void CPU_FN(sample_step)(struct device *device, float *x, const float *out, const float *noise,
                         const struct sampler_step *step, size_t B, size_t n)
{
    const struct sampling p = {x, out, noise, step, n};
    team_for(team_of(device, B * n), B, 1, step_samples, &p);
}
