// LayerNorm with modulation, the gated residual before it, and their gradients.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#define EPS 1e-6f

// The mean of a row, and 1 / its standard deviation.
INLINE void find_row_moments(const float *x, size_t D, float *mean, float *rstd)
{
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t d = 0; d < D; d++)
        sum += x[d];
    const float m = sum / (float)D;
#pragma omp simd reduction(+ : squares)
    for (size_t d = 0; d < D; d++)
        squares += (x[d] - m) * (x[d] - m);
    *mean = m;
    *rstd = 1 / sqrtf(squares / (float)D + EPS);
}

INLINE void modulate_row(float *y, const float *x, const float *shift, const float *scale,
                         float mean, float rstd, size_t D)
{
#pragma omp simd
    for (size_t d = 0; d < D; d++)
        y[d] = (x[d] - mean) * rstd * (1 + scale[d]) + shift[d];
}

// The arguments of both operations; norm_modulate has no gate, no branch and no sum.
struct norm_modulate {
    float *sum, *y, *mean, *rstd;
    const float *x, *branch, *gate, *shift, *scale;
    size_t stride, T, D;
};

static void norm_modulate_rows(const void *context, struct team_range range)
{
    const struct norm_modulate *p = context;
    const size_t D = p->D;
    for (size_t r = range.first; r < range.end; r++) {
        const float *in = p->x + r * D;
        const size_t at = r / p->T * p->stride;
        float row_mean, row_rstd;
        find_row_moments(in, D, &row_mean, &row_rstd);
        modulate_row(p->y + r * D, in, p->shift + at, p->scale + at, row_mean, row_rstd, D);
        if (p->mean)
            p->mean[r] = row_mean, p->rstd[r] = row_rstd;
    }
}

void CPU_FN(norm_modulate)(struct device *device, act *y, float *mean, float *rstd, const act *x,
                           struct modulation m, size_t B, size_t T, size_t D)
{
    const struct norm_modulate p = {.y = floats(y),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .x = const_floats(x),
                                    .shift = const_floats(m.shift),
                                    .scale = const_floats(m.scale),
                                    .stride = m.stride,
                                    .T = T,
                                    .D = D};
    team_for(team_of(device, B * T * D), B * T, rows_of_grain(D), norm_modulate_rows, &p);
}

static void gate_residual_norm_modulate_rows(const void *context, struct team_range range)
{
    const struct norm_modulate *p = context;
    const size_t D = p->D;
    for (size_t r = range.first; r < range.end; r++) {
        const float *in = p->x + r * D, *add = p->branch + r * D;
        const size_t at = r / p->T * p->stride;
        const float *gate = p->gate + at;
        float row_mean, row_rstd, *total = p->sum + r * D;
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            total[d] = in[d] + gate[d] * add[d];
        find_row_moments(total, D, &row_mean, &row_rstd);
        modulate_row(p->y + r * D, total, p->shift + at, p->scale + at, row_mean, row_rstd, D);
        if (p->mean)
            p->mean[r] = row_mean, p->rstd[r] = row_rstd;
    }
}

void CPU_FN(gate_residual_norm_modulate)(struct device *device, act *sum, act *y, float *mean,
                                         float *rstd, const act *x, const act *branch,
                                         struct modulation m, size_t B, size_t T, size_t D)
{
    const struct norm_modulate p = {.sum = floats(sum),
                                    .y = floats(y),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .x = const_floats(x),
                                    .branch = const_floats(branch),
                                    .gate = const_floats(m.gate),
                                    .shift = const_floats(m.shift),
                                    .scale = const_floats(m.scale),
                                    .stride = m.stride,
                                    .T = T,
                                    .D = D};
    team_for(team_of(device, B * T * D), B * T, rows_of_grain(D), gate_residual_norm_modulate_rows,
             &p);
}

// The gradient of LN and modulation for the row of one token: writes dx, and adds to dshift and
// dscale. The formulas are in kernels/ref/norm.c.
INLINE void norm_backward_row(float *dx, float *dshift, float *dscale, const float *dy,
                              const float *dsum, const float *x, float mean, float rstd,
                              const float *scale, size_t D)
{
    float dn_sum = 0, dn_n_sum = 0;
#pragma omp simd reduction(+ : dn_sum, dn_n_sum)
    for (size_t d = 0; d < D; d++) {
        float n = (x[d] - mean) * rstd, dn = dy[d] * (1 + scale[d]);
        dn_sum += dn;
        dn_n_sum += dn * n;
        dshift[d] += dy[d];
        dscale[d] += dy[d] * n;
    }
    const float dn_mean = dn_sum / (float)D, dn_n_mean = dn_n_sum / (float)D;
    if (dsum) {
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            float n = (x[d] - mean) * rstd, dn = dy[d] * (1 + scale[d]);
            dx[d] = dsum[d] + rstd * (dn - dn_mean - n * dn_n_mean);
        }
    } else {
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            float n = (x[d] - mean) * rstd, dn = dy[d] * (1 + scale[d]);
            dx[d] = rstd * (dn - dn_mean - n * dn_n_mean);
        }
    }
}

// Tokens of a chunk. Sums over a sample's tokens add up the sums of chunks in order, so that they
// don't depend on the number of threads.
#define CHUNK_T 32

// The arguments of both backward passes. If branch is NULL there is no gate, no dbranch and no
// dgate.
struct norm_backward {
    float *dx, *dbranch, *dgate, *dshift, *dscale;
    const float *dy, *dsum, *x, *mean, *rstd, *branch, *gate, *scale;
    size_t stride, dstride, B, T, D;
    float *sums;   // (B,chunks,3,D): dshift, dscale and dgate of each chunk
    size_t chunks; // of a sample
};

static void norm_backward_chunk(const struct norm_backward *p, size_t n)
{
    const size_t D = p->D, b = n / p->chunks, t = n % p->chunks * CHUNK_T;
    const size_t end = min(t + CHUNK_T, p->T);
    float *sums = p->sums + n * 3 * D;
    memset(sums, 0, 3 * D * sizeof *sums);
    for (size_t r = b * p->T + t; r < b * p->T + end; r++) {
        float *dx = p->dx + r * D;
        norm_backward_row(dx, sums, sums + D, p->dy + r * D, p->dsum ? p->dsum + r * D : NULL,
                          p->x + r * D, p->mean[r], p->rstd[r], p->scale + b * p->stride, D);
        if (!p->branch)
            continue;
        float *dbranch = p->dbranch + r * D, *dgate = sums + 2 * D;
        const float *branch = p->branch + r * D, *gate = p->gate + b * p->stride;
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            dgate[d] += branch[d] * dx[d];
            dbranch[d] = gate[d] * dx[d];
        }
    }
}

// to (D) = the sum over the chunks of sums[chunk * 3 D .. chunk * 3 D + D - 1].
static void add_chunk_sums(float *to, const float *sums, size_t chunks, size_t D)
{
    memcpy(to, sums, D * sizeof *to);
    for (size_t c = 1; c < chunks; c++)
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            to[d] += sums[c * 3 * D + d];
}

static void norm_backward_chunks(const void *context, struct team_range range)
{
    for (size_t n = range.first; n < range.end; n++)
        norm_backward_chunk(context, n);
}

static void norm_backward_sums(const void *context, struct team_range range)
{
    const struct norm_backward *p = context;
    const size_t D = p->D, chunks = p->chunks;
    for (size_t b = range.first; b < range.end; b++) {
        const float *from = p->sums + b * chunks * 3 * D;
        add_chunk_sums(p->dshift + b * p->dstride, from, chunks, D);
        add_chunk_sums(p->dscale + b * p->dstride, from + D, chunks, D);
        if (p->branch)
            add_chunk_sums(p->dgate + b * p->dstride, from + 2 * D, chunks, D);
    }
}

static void norm_backward(struct device *device, const struct norm_backward *call)
{
    struct norm_backward p = *call;
    p.chunks = divide_up(p.T, CHUNK_T);
    p.sums = CPU_FN(scratch)(device, p.B * p.chunks * 3 * p.D);
    if (!p.sums)
        return;
    struct team *team = team_of(device, p.B * p.T * p.D);
    team_for(team, p.B * p.chunks, 1, norm_backward_chunks, &p);
    team_for(team_of(device, p.B * p.chunks * p.D), p.B, rows_of_grain(p.chunks * p.D),
             norm_backward_sums, &p);
}

void CPU_FN(norm_modulate_backward)(struct device *device, act *dx, struct modulation dm,
                                    const act *dy, const act *dsum, const act *x, const float *mean,
                                    const float *rstd, struct modulation m, size_t B, size_t T,
                                    size_t D)
{
    const struct norm_backward p = {.dx = floats(dx),
                                    .dshift = floats(dm.shift),
                                    .dscale = floats(dm.scale),
                                    .dy = const_floats(dy),
                                    .dsum = const_floats(dsum),
                                    .x = const_floats(x),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .scale = const_floats(m.scale),
                                    .stride = m.stride,
                                    .dstride = dm.stride,
                                    .B = B,
                                    .T = T,
                                    .D = D};
    norm_backward(device, &p);
}

void CPU_FN(gate_residual_norm_modulate_backward)(struct device *device, act *dx, act *dbranch,
                                                  struct modulation dm, const act *dy,
                                                  const act *dsum, const act *sum,
                                                  const float *mean, const float *rstd,
                                                  const act *branch, struct modulation m, size_t B,
                                                  size_t T, size_t D)
{
    const struct norm_backward p = {.dx = floats(dx),
                                    .dbranch = floats(dbranch),
                                    .dgate = floats(dm.gate),
                                    .dshift = floats(dm.shift),
                                    .dscale = floats(dm.scale),
                                    .dy = const_floats(dy),
                                    .dsum = const_floats(dsum),
                                    .x = const_floats(sum),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .branch = const_floats(branch),
                                    .gate = const_floats(m.gate),
                                    .scale = const_floats(m.scale),
                                    .stride = m.stride,
                                    .dstride = dm.stride,
                                    .B = B,
                                    .T = T,
                                    .D = D};
    norm_backward(device, &p);
}
