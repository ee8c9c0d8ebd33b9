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

void CPU_FN(norm_modulate)(struct device *device, act *y, float *mean, float *rstd, const act *x,
                           struct modulation m, size_t B, size_t T, size_t D)
{
#pragma omp parallel for num_threads(threads_for(device, B *T *D))
    for (size_t r = 0; r < B * T; r++) {
        const float *in = const_floats(x) + r * D;
        const size_t at = r / T * m.stride;
        float row_mean, row_rstd;
        find_row_moments(in, D, &row_mean, &row_rstd);
        modulate_row(floats(y) + r * D, in, const_floats(m.shift) + at, const_floats(m.scale) + at,
                     row_mean, row_rstd, D);
        if (mean)
            mean[r] = row_mean, rstd[r] = row_rstd;
    }
}

void CPU_FN(gate_residual_norm_modulate)(struct device *device, act *sum, act *y, float *mean,
                                         float *rstd, const act *x, const act *branch,
                                         struct modulation m, size_t B, size_t T, size_t D)
{
#pragma omp parallel for num_threads(threads_for(device, B *T *D))
    for (size_t r = 0; r < B * T; r++) {
        const float *in = const_floats(x) + r * D, *add = const_floats(branch) + r * D;
        const size_t at = r / T * m.stride;
        const float *gate = const_floats(m.gate) + at;
        float row_mean, row_rstd, *total = floats(sum) + r * D;
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            total[d] = in[d] + gate[d] * add[d];
        find_row_moments(total, D, &row_mean, &row_rstd);
        modulate_row(floats(y) + r * D, total, const_floats(m.shift) + at,
                     const_floats(m.scale) + at, row_mean, row_rstd, D);
        if (mean)
            mean[r] = row_mean, rstd[r] = row_rstd;
    }
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
};

// The gradients of tokens t .. end - 1 of sample b; sums (3,D) are their dshift, dscale and dgate.
static void norm_backward_chunk(const struct norm_backward *p, float *sums, size_t b, size_t t,
                                size_t end)
{
    const size_t D = p->D;
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

static void norm_backward(struct device *device, const struct norm_backward *p)
{
    const size_t D = p->D, chunks = divide_up(p->T, CHUNK_T);
    float *sums = CPU_FN(scratch)(device, p->B * chunks * 3 * D);
    if (!sums)
        return;
#pragma omp parallel num_threads(threads_for(device, p->B * p->T * D))
    {
#pragma omp for
        for (size_t n = 0; n < p->B * chunks; n++) {
            size_t t = n % chunks * CHUNK_T, end = min(t + CHUNK_T, p->T);
            norm_backward_chunk(p, sums + n * 3 * D, n / chunks, t, end);
        }
#pragma omp for
        for (size_t b = 0; b < p->B; b++) {
            const float *from = sums + b * chunks * 3 * D;
            add_chunk_sums(p->dshift + b * p->dstride, from, chunks, D);
            add_chunk_sums(p->dscale + b * p->dstride, from + D, chunks, D);
            if (p->branch)
                add_chunk_sums(p->dgate + b * p->dstride, from + 2 * D, chunks, D);
        }
    }
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
