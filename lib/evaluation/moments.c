// Gathers moments by blocks of vectors. SPDX-License-Identifier: MIT
#include "lib/evaluation/moments.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/mem.h"

#define BLOCK  127 // vectors
#define STRIDE (BLOCK + 1)

int moments_init(struct moments *m, struct device *host, size_t D)
{
    *m = (struct moments){.host = host, .D = D};
    m->mean = mem_new(D, sizeof *m->mean);
    m->added = mem_new(D, sizeof *m->added);
    m->scatter = mem_new(D, D * sizeof *m->scatter);
    m->pending = mem_new(D, STRIDE * sizeof *m->pending);
    if (m->mean && m->added && m->scatter && m->pending)
        return 0;
    moments_free(m);
    return -1;
}

void moments_free(struct moments *m)
{
    free(m->mean);
    free(m->added);
    free(m->scatter);
    free(m->pending);
    *m = (struct moments){0};
}

// Moves the mean to that of n more vectors, whose mean is m->added, and sets column 0 of pending to
// the difference of the means, scaled so that its outer product is what the scatter gains by it.
static void move_mean(struct moments *m, uint64_t n)
{
    const double before = (double)m->n, more = (double)n, all = before + more;
    const double scale = sqrt(before * more / all);
    for (size_t i = 0; i < m->D; i++) {
        const double difference = m->added[i] - m->mean[i];
        m->pending[i * STRIDE] = scale * difference;
        m->mean[i] += more / all * difference;
    }
    m->n += n;
}

// The scatter gains that of the block about its own mean, and that of the means.
static void add_pending(struct moments *m)
{
    const size_t n = m->n_pending;
    if (n == 0)
        return;
    for (size_t i = 0; i < m->D; i++) {
        double *x = m->pending + i * STRIDE + 1, sum = 0;
        for (size_t k = 0; k < n; k++)
            sum += x[k];
        m->added[i] = sum / (double)n;
        for (size_t k = 0; k < n; k++)
            x[k] -= m->added[i];
        memset(x + n, 0, (BLOCK - n) * sizeof *x);
    }
    move_mean(m, n);
    op_product_f64(m->host, m->scatter, m->pending, m->pending, m->D, STRIDE, m->D);
    m->n_pending = 0;
}

void moments_add(struct moments *m, const float *x, size_t n)
{
    for (size_t k = 0; k < n; k++, x += m->D) {
        for (size_t i = 0; i < m->D; i++)
            m->pending[i * STRIDE + 1 + m->n_pending] = x[i];
        if (++m->n_pending == BLOCK)
            add_pending(m);
    }
}

void moments_merge(struct moments *m, uint64_t n, const double *mean, const double *covariance)
{
    const size_t D = m->D;
    const double degrees = n > 1 ? (double)(n - 1) : 1;
    add_pending(m);
    for (size_t i = 0; i < D; i++) {
        m->added[i] = mean[i];
        memset(m->pending + i * STRIDE, 0, STRIDE * sizeof *m->pending);
    }
    move_mean(m, n);
    op_product_f64(m->host, m->scatter, m->pending, m->pending, D, STRIDE, D);
    for (size_t i = 0; i < D * D; i++)
        m->scatter[i] += degrees * covariance[i];
}

void moments_finish(struct moments *m, double *covariance)
{
    add_pending(m);
    for (size_t i = 0; i < m->D * m->D; i++)
        covariance[i] = m->n > 1 ? m->scatter[i] / (double)(m->n - 1) : 0;
}
