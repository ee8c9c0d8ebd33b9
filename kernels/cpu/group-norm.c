// GroupNorm and the SiLU after it. SPDX-License-Identifier: MIT
//
// A sample's rows are cut into chunks. Within a chunk sums are float32, and squares are of
// deviations from the chunk's own mean; sums over chunks are double. The order depends on n and C
// alone, so that the bits of the result don't depend on the batch or the number of threads.
#include "kernels/cpu/real.h"

#define EPS   1e-6
#define CHUNK ((size_t)4096) // elements of a chunk, roughly: they fit into the first-level cache

// The moments of one group within one chunk.
struct chunk_moments {
    double sum, squares; // squares: the sum of (x - the chunk's mean)^2
};

struct group_norm {
    const real *x, *w, *b;
    real *y;
    bool silu;
    size_t n, C, G;
    size_t rows, chunks;           // rows of a chunk; chunks of a sample
    struct chunk_moments *moments; // (B,chunks,G)
    float *factor, *offset;        // (B,C): y = factor x + offset
    float *work;                   // (threads,work_size)
    size_t work_size;
};

static size_t chunk_rows(const struct group_norm *p, size_t chunk)
{
    return min(p->n - chunk * p->rows, p->rows);
}

// The moments of G groups in one chunk x (rows,C). work: 2 C floats.
static void find_chunk_moments(struct chunk_moments *moments, const real *x, size_t rows, size_t C,
                               size_t G, float *work)
{
    float *sums = work, *means = work + C;
    const size_t width = C / G;
    memset(sums, 0, C * sizeof *sums);
    for (size_t row = 0; row < rows; row++)
#pragma omp simd
        for (size_t c = 0; c < C; c++)
            sums[c] += to_float(x[row * C + c]);
    for (size_t g = 0; g < G; g++) {
        double sum = 0;
        for (size_t c = g * width; c < (g + 1) * width; c++)
            sum += (double)sums[c];
        moments[g].sum = sum;
        for (size_t c = g * width; c < (g + 1) * width; c++)
            means[c] = (float)(sum / (double)(rows * width));
    }
    memset(sums, 0, C * sizeof *sums);
    for (size_t row = 0; row < rows; row++)
#pragma omp simd
        for (size_t c = 0; c < C; c++) {
            const float deviation = to_float(x[row * C + c]) - means[c];
            sums[c] += deviation * deviation;
        }
    for (size_t g = 0; g < G; g++) {
        moments[g].squares = 0;
        for (size_t c = g * width; c < (g + 1) * width; c++)
            moments[g].squares += (double)sums[c];
    }
}

// Combines the moments of all chunks of a sample into factor and offset of the channels of group g.
static void combine_moments(const struct group_norm *p, size_t sample, size_t g)
{
    const size_t width = p->C / p->G;
    const struct chunk_moments *m = p->moments + sample * p->chunks * p->G + g;
    double mean = 0, squares = 0;
    for (size_t k = 0; k < p->chunks; k++)
        mean += m[k * p->G].sum;
    mean /= (double)(p->n * width);
    for (size_t k = 0; k < p->chunks; k++) {
        const double count = (double)(chunk_rows(p, k) * width);
        const double deviation = m[k * p->G].sum / count - mean;
        squares += m[k * p->G].squares + count * deviation * deviation;
    }
    const double rstd = 1 / sqrt(squares / (double)(p->n * width) + EPS);
    for (size_t c = g * width; c < (g + 1) * width; c++) {
        const float factor = (float)(rstd * (double)to_float(p->w[c]));
        p->factor[sample * p->C + c] = factor;
        p->offset[sample * p->C + c] = (float)((double)to_float(p->b[c]) - mean * (double)factor);
    }
}

static void normalize_chunk(const struct group_norm *p, size_t sample, size_t chunk)
{
    const float *factor = p->factor + sample * p->C, *offset = p->offset + sample * p->C;
    const size_t first = sample * p->n + chunk * p->rows;
    for (size_t row = first; row < first + chunk_rows(p, chunk); row++) {
        const real *x = p->x + row * p->C;
        real *y = p->y + row * p->C;
        if (p->silu) {
#pragma omp simd
            for (size_t c = 0; c < p->C; c++) {
                const float value = multiply_add(to_float(x[c]), factor[c], offset[c]);
                y[c] = to_real(value * simd_sigmoid(value));
            }
        } else {
#pragma omp simd
            for (size_t c = 0; c < p->C; c++)
                y[c] = to_real(multiply_add(to_float(x[c]), factor[c], offset[c]));
        }
    }
}

static void find_moments_of_chunks(const void *context, struct team_range range)
{
    const struct group_norm *p = context;
    for (size_t k = range.first; k < range.end; k++)
        find_chunk_moments(
            p->moments + k * p->G, p->x + (k / p->chunks * p->n + k % p->chunks * p->rows) * p->C,
            chunk_rows(p, k % p->chunks), p->C, p->G, p->work + range.member * p->work_size);
}

static void combine_moments_of_groups(const void *context, struct team_range range)
{
    const struct group_norm *p = context;
    for (size_t k = range.first; k < range.end; k++)
        combine_moments(p, k / p->G, k % p->G);
}

static void normalize_chunks(const void *context, struct team_range range)
{
    const struct group_norm *p = context;
    for (size_t k = range.first; k < range.end; k++)
        normalize_chunk(p, k / p->chunks, k % p->chunks);
}

void CPU_FN(group_norm)(struct device *device, act *y, const act *x, const act *w, const act *b,
                        bool silu, size_t B, size_t n, size_t C, size_t G)
{
    const size_t rows = 1 + CHUNK / C, chunks = divide_up(n, rows);
    const size_t moments_size = B * chunks * G * (sizeof(struct chunk_moments) / sizeof(float));
    const size_t work_size = round_up(2 * C, 16);
    float *scratch = ISA_FN(scratch)(device, moments_size + 2 * B * C + 16 +
                                                 (size_t)device->threads * work_size);
    if (!scratch)
        return;
    float *factor = scratch + moments_size, *offset = factor + B * C;
    float *work = scratch + round_up(moments_size + 2 * B * C, 16);
    const struct group_norm p = {
        .x = const_reals(x),
        .w = const_reals(w),
        .b = const_reals(b),
        .y = reals(y),
        .silu = silu,
        .n = n,
        .C = C,
        .G = G,
        .rows = rows,
        .chunks = chunks,
        .moments = (struct chunk_moments *)(void *)scratch,
        .factor = factor,
        .offset = offset,
        .work = work,
        .work_size = work_size,
    };
    struct team *team = team_of(device, B * n * C);
    team_for(team, B * chunks, 1, find_moments_of_chunks, &p);
    team_for(team_of(device, B * G * chunks), B * G, rows_of_grain(chunks),
             combine_moments_of_groups, &p);
    team_for(team, B * chunks, 1, normalize_chunks, &p);
}
