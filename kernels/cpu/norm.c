// LayerNorm with modulation, the gated residual before it, and their gradients.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/real.h"

#define EPS 1e-6f

// The mean of a row, and 1 / its standard deviation.
INLINE void find_row_moments(const real *x, size_t D, float *mean, float *rstd)
{
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t d = 0; d < D; d++)
        sum += to_float(x[d]);
    const float m = sum / (float)D;
#pragma omp simd reduction(+ : squares)
    for (size_t d = 0; d < D; d++) {
        const float deviation = to_float(x[d]) - m;
        squares += deviation * deviation;
    }
    *mean = m;
    *rstd = 1 / sqrtf(squares / (float)D + EPS);
}

INLINE void modulate_row(real *y, const real *x, const real *shift, const real *scale, float mean,
                         float rstd, size_t D)
{
#pragma omp simd
    for (size_t d = 0; d < D; d++)
        y[d] =
            to_real((to_float(x[d]) - mean) * rstd * (1 + to_float(scale[d])) + to_float(shift[d]));
}

// The arguments of both operations; norm_modulate has no gate, no branch and no sum.
struct norm_modulate {
    real *sum, *y;
    float *mean, *rstd;
    const real *x, *branch, *gate, *shift, *scale;
    size_t stride, T, D;
};

static void norm_modulate_rows(const void *context, struct team_range range)
{
    const struct norm_modulate *p = context;
    const size_t D = p->D;
    for (size_t r = range.first; r < range.end; r++) {
        const real *in = p->x + r * D;
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
    const struct norm_modulate p = {.y = reals(y),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .x = const_reals(x),
                                    .shift = const_reals(m.shift),
                                    .scale = const_reals(m.scale),
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
        const real *in = p->x + r * D, *add = p->branch + r * D;
        const size_t at = r / p->T * p->stride;
        const real *gate = p->gate + at;
        real *total = p->sum + r * D;
        float row_mean, row_rstd;
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            total[d] = to_real(to_float(in[d]) + to_float(gate[d]) * to_float(add[d]));
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
    const struct norm_modulate p = {.sum = reals(sum),
                                    .y = reals(y),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .x = const_reals(x),
                                    .branch = const_reals(branch),
                                    .gate = const_reals(m.gate),
                                    .shift = const_reals(m.shift),
                                    .scale = const_reals(m.scale),
                                    .stride = m.stride,
                                    .T = T,
                                    .D = D};
    team_for(team_of(device, B * T * D), B * T, rows_of_grain(D), gate_residual_norm_modulate_rows,
             &p);
}

// The gradient of LN and modulation for the row of one token: writes dx, and adds to dshift and
// dscale. The formulas are in kernels/ref/norm.c.
INLINE void norm_backward_row(real *dx, float *dshift, float *dscale, const real *dy,
                              const real *dsum, const real *x, float mean, float rstd,
                              const real *scale, size_t D)
{
    float dn_sum = 0, dn_n_sum = 0;
#pragma omp simd reduction(+ : dn_sum, dn_n_sum)
    for (size_t d = 0; d < D; d++) {
        const float n = (to_float(x[d]) - mean) * rstd, dyd = to_float(dy[d]);
        const float dn = dyd * (1 + to_float(scale[d]));
        dn_sum += dn;
        dn_n_sum += dn * n;
        dshift[d] += dyd;
        dscale[d] += dyd * n;
    }
    const float dn_mean = dn_sum / (float)D, dn_n_mean = dn_n_sum / (float)D;
    if (dsum) {
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            const float n = (to_float(x[d]) - mean) * rstd;
            const float dn = to_float(dy[d]) * (1 + to_float(scale[d]));
            dx[d] = to_real(to_float(dsum[d]) + rstd * (dn - dn_mean - n * dn_n_mean));
        }
    } else {
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            const float n = (to_float(x[d]) - mean) * rstd;
            const float dn = to_float(dy[d]) * (1 + to_float(scale[d]));
            dx[d] = to_real(rstd * (dn - dn_mean - n * dn_n_mean));
        }
    }
}

// Tokens of a chunk. Sums over a sample's tokens add up the sums of chunks in order, so that they
// don't depend on the number of threads.
#define CHUNK_T 32

// The arguments of both backward passes. If branch is NULL there is no gate, no dbranch and no
// dgate.
struct norm_backward {
    real *dx, *dbranch, *dgate, *dshift, *dscale;
    const real *dy, *dsum, *x, *branch, *gate, *scale;
    const float *mean, *rstd;
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
        real *dx = p->dx + r * D;
        norm_backward_row(dx, sums, sums + D, p->dy + r * D, p->dsum ? p->dsum + r * D : NULL,
                          p->x + r * D, p->mean[r], p->rstd[r], p->scale + b * p->stride, D);
        if (!p->branch)
            continue;
        real *dbranch = p->dbranch + r * D;
        float *dgate = sums + 2 * D;
        const real *branch = p->branch + r * D, *gate = p->gate + b * p->stride;
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            const float dxd = to_float(dx[d]);
            dgate[d] += to_float(branch[d]) * dxd;
            dbranch[d] = to_real(to_float(gate[d]) * dxd);
        }
    }
}

// to (D) = the sum over the chunks of sums[chunk * 3 D .. chunk * 3 D + D - 1], which ends in the
// first of them.
static void add_chunk_sums(real *to, float *sums, size_t chunks, size_t D)
{
    for (size_t c = 1; c < chunks; c++)
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            sums[d] += sums[c * 3 * D + d];
#pragma omp simd
    for (size_t d = 0; d < D; d++)
        to[d] = to_real(sums[d]);
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
        float *from = p->sums + b * chunks * 3 * D;
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
    p.sums = ISA_FN(scratch)(device, p.B * p.chunks * 3 * p.D);
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
    const struct norm_backward p = {.dx = reals(dx),
                                    .dshift = reals(dm.shift),
                                    .dscale = reals(dm.scale),
                                    .dy = const_reals(dy),
                                    .dsum = const_reals(dsum),
                                    .x = const_reals(x),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .scale = const_reals(m.scale),
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
    const struct norm_backward p = {.dx = reals(dx),
                                    .dbranch = reals(dbranch),
                                    .dgate = reals(dm.gate),
                                    .dshift = reals(dm.shift),
                                    .dscale = reals(dm.scale),
                                    .dy = const_reals(dy),
                                    .dsum = const_reals(dsum),
                                    .x = const_reals(sum),
                                    .mean = mean,
                                    .rstd = rstd,
                                    .branch = const_reals(branch),
                                    .gate = const_reals(m.gate),
                                    .scale = const_reals(m.scale),
                                    .stride = m.stride,
                                    .dstride = dm.stride,
                                    .B = B,
                                    .T = T,
                                    .D = D};
    norm_backward(device, &p);
}
