// GroupNorm and the SiLU after it. SPDX-License-Identifier: MIT
//
// Sums over a sample are made of sums over chunks of its rows, in an order that depends on n and C
// alone: float32 within a chunk, about the chunk's own mean, and double from there on.
#include <omp.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#define EPS   1e-6
#define CHUNK ((size_t)4096) // elements of a chunk, about: they stay in the first-level cache

// Of one group in one chunk.
struct moments {
    double sum, squares; // squares of what is left without the chunk's mean
};

struct norm {
    const float *x, *w, *b;
    float *y;
    bool silu;
    size_t n, C, G;
    size_t rows, chunks;     // rows of a chunk; chunks of a sample
    struct moments *moments; // (B,chunks,G)
    float *factor, *offset;  // (B,C): y = factor x + offset
};

static size_t count_rows(const struct norm *p, size_t chunk)
{
    return p->n - chunk * p->rows < p->rows ? p->n - chunk * p->rows : p->rows;
}

// work: 2 C floats.
static void find_moments(struct moments *moments, const float *x, size_t rows, size_t C, size_t G,
                         float *work)
{
    float *sums = work, *means = work + C;
    const size_t width = C / G;
    memset(sums, 0, C * sizeof *sums);
    for (size_t row = 0; row < rows; row++)
#pragma omp simd
        for (size_t c = 0; c < C; c++)
            sums[c] += x[row * C + c];
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
            const float away = x[row * C + c] - means[c];
            sums[c] += away * away;
        }
    for (size_t g = 0; g < G; g++) {
        moments[g].squares = 0;
        for (size_t c = g * width; c < (g + 1) * width; c++)
            moments[g].squares += (double)sums[c];
    }
}

// From the moments of all chunks of a sample, what becomes of the channels of group g.
static void combine(const struct norm *p, size_t sample, size_t g)
{
    const size_t width = p->C / p->G;
    const struct moments *m = p->moments + sample * p->chunks * p->G + g;
    double mean = 0, squares = 0;
    for (size_t k = 0; k < p->chunks; k++)
        mean += m[k * p->G].sum;
    mean /= (double)(p->n * width);
    for (size_t k = 0; k < p->chunks; k++) {
        const double count = (double)(count_rows(p, k) * width);
        const double away = m[k * p->G].sum / count - mean;
        squares += m[k * p->G].squares + count * away * away;
    }
    const double rstd = 1 / sqrt(squares / (double)(p->n * width) + EPS);
    for (size_t c = g * width; c < (g + 1) * width; c++) {
        const float factor = (float)(rstd * (double)p->w[c]);
        p->factor[sample * p->C + c] = factor;
        p->offset[sample * p->C + c] = (float)((double)p->b[c] - mean * (double)factor);
    }
}

static void normalise(const struct norm *p, size_t sample, size_t chunk)
{
    const float *factor = p->factor + sample * p->C, *offset = p->offset + sample * p->C;
    const size_t first = sample * p->n + chunk * p->rows;
    for (size_t row = first; row < first + count_rows(p, chunk); row++) {
        const float *x = p->x + row * p->C;
        float *y = p->y + row * p->C;
        if (p->silu) {
#pragma omp simd
            for (size_t c = 0; c < p->C; c++) {
                const float value = multiply_add(x[c], factor[c], offset[c]);
                y[c] = value * simd_sigmoid(value);
            }
        } else {
#pragma omp simd
            for (size_t c = 0; c < p->C; c++)
                y[c] = multiply_add(x[c], factor[c], offset[c]);
        }
    }
}

void CPU_FN(group_norm)(struct device *device, act *y, const act *x, const act *w, const act *b,
                        bool silu, size_t B, size_t n, size_t C, size_t G)
{
    const size_t rows = 1 + CHUNK / C, chunks = (n + rows - 1) / rows;
    const size_t of_moments = B * chunks * G * (sizeof(struct moments) / sizeof(float));
    const size_t work_size = round_up(2 * C, 16);
    float *scratch =
        CPU_FN(scratch)(device, of_moments + 2 * B * C + 16 + (size_t)device->threads * work_size);
    if (!scratch)
        return;
    float *factor = scratch + of_moments, *offset = factor + B * C;
    float *work = scratch + round_up(of_moments + 2 * B * C, 16);
    const struct norm p = {
        .x = const_floats(x),
        .w = const_floats(w),
        .b = const_floats(b),
        .y = floats(y),
        .silu = silu,
        .n = n,
        .C = C,
        .G = G,
        .rows = rows,
        .chunks = chunks,
        .moments = (struct moments *)(void *)scratch,
        .factor = factor,
        .offset = offset,
    };
#pragma omp parallel num_threads(threads_for(device, B *n *C))
    {
#pragma omp for
        for (size_t k = 0; k < B * chunks; k++)
            find_moments(p.moments + k * G, p.x + (k / chunks * n + k % chunks * rows) * C,
                         count_rows(&p, k % chunks), C, G,
                         work + (size_t)omp_get_thread_num() * work_size);
#pragma omp for
        for (size_t k = 0; k < B * G; k++)
            combine(&p, k / G, k % G);
#pragma omp for
        for (size_t k = 0; k < B * chunks; k++)
            normalise(&p, k / chunks, k % chunks);
    }
}
