// Operations on single activations. SPDX-License-Identifier: MIT
#include "kernels/cpu/real.h"

// The arrays of an operation on n elements; those that it doesn't have are NULL.
struct elements {
    real *to;
    const real *a, *b;
};

static void silu_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    real *to = p->to;
    const real *from = p->a;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++) {
        const float x = to_float(from[i]);
        to[i] = to_real(x * simd_sigmoid(x));
    }
}

void CPU_FN(silu)(struct device *device, act *y, const act *x, size_t n)
{
    const struct elements p = {.to = reals(y), .a = const_reals(x)};
    team_for(team_of(device, n), n, GRAIN, silu_elements, &p);
}

static void gelu_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    size_t i = range.first;
    for (; i + LANES <= range.end; i += LANES)
        vec_store_real(p->to + i, vec_gelu(vec_load_real(p->a + i)));
    real rest[LANES] = {0};
    memcpy(rest, p->a + i, (range.end - i) * sizeof *rest);
    vec_store_real(rest, vec_gelu(vec_load_real(rest)));
    memcpy(p->to + i, rest, (range.end - i) * sizeof *rest);
}

void CPU_FN(gelu)(struct device *device, act *y, const act *x, size_t n)
{
    const struct elements p = {.to = reals(y), .a = const_reals(x)};
    team_for(team_of(device, n), n, GRAIN, gelu_elements, &p);
}

static void silu_backward_elements(const void *context, struct team_range range)
{
    const struct elements *p = context;
    real *to = p->to;
    const real *dfrom = p->a, *from = p->b;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++) {
        const float x = to_float(from[i]), s = simd_sigmoid(x);
        to[i] = to_real(to_float(dfrom[i]) * s * (1 + x * (1 - s)));
    }
}

void CPU_FN(silu_backward)(struct device *device, act *dx, const act *dy, const act *x, size_t n)
{
    const struct elements p = {reals(dx), const_reals(dy), const_reals(x)};
    team_for(team_of(device, n), n, GRAIN, silu_backward_elements, &p);
}

struct row_addition {
    real *to; // (B,n)
    const real *row;
    size_t B, n;
};

// Adds a part of the row to all B.
static void add_part_of_row(const void *context, struct team_range range)
{
    const struct row_addition *p = context;
    const real *add = p->row;
    for (size_t b = 0; b < p->B; b++) {
        real *to = p->to + b * p->n;
#pragma omp simd
        for (size_t i = range.first; i < range.end; i++)
            to[i] = to_real(to_float(to[i]) + to_float(add[i]));
    }
}

void CPU_FN(add_row)(struct device *device, act *x, const act *row, size_t B, size_t n)
{
    const struct row_addition p = {reals(x), const_reals(row), B, n};
    if (B > 0)
        team_for(team_of(device, B * n), n, rows_of_grain(B), add_part_of_row, &p);
}

struct rounding {
    real *to;
    const float *from;
};

static void round_elements(const void *context, struct team_range range)
{
    const struct rounding *p = context;
    real *to = p->to;
    const float *from = p->from;
#pragma omp simd
    for (size_t i = range.first; i < range.end; i++)
        to[i] = to_real(from[i]);
}

void CPU_FN(to_act)(struct device *device, act *y, const float *x, size_t n)
{
    const struct rounding p = {reals(y), x};
    team_for(team_of(device, n), n, GRAIN, round_elements, &p);
}

struct embedding_addition {
    real *y;
    const real *x, *table;
    const int32_t *labels;
    size_t D;
};

static void add_embeddings(const void *context, struct team_range range)
{
    const struct embedding_addition *p = context;
    for (size_t b = range.first; b < range.end; b++) {
        const real *from = p->x + b * p->D, *add = p->table + (size_t)p->labels[b] * p->D;
        real *to = p->y + b * p->D;
#pragma omp simd
        for (size_t d = 0; d < p->D; d++)
            to[d] = to_real(to_float(from[d]) + to_float(add[d]));
    }
}

void CPU_FN(embedding_add)(struct device *device, act *y, const act *x, const act *table,
                           const int32_t *labels, size_t B, size_t D)
{
    const struct embedding_addition p = {reals(y), const_reals(x), const_reals(table), labels, D};
    team_for(team_of(device, B * D), B, rows_of_grain(D), add_embeddings, &p);
}

// By one thread: rows of dtable may be those of several samples.
void CPU_FN(embedding_backward)(DEVICE, float *dtable, const act *dy, const int32_t *labels,
                                size_t B, size_t D)
{
    for (size_t b = 0; b < B; b++) {
        const real *from = const_reals(dy) + b * D;
        float *to = dtable + (size_t)labels[b] * D;
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            to[d] += to_float(from[d]);
    }
}
