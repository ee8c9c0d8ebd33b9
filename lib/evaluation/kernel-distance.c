// KID, in float64: it is a small difference of large sums. SPDX-License-Identifier: MIT
#include "lib/evaluation/kernel-distance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"

// The vectors at work, in float64, and the kernel of each pair.
struct kernel_work {
    struct device *host;
    size_t D, m, n;
    double *x, *y; // (m,D), (n,D)
    double *k;     // (m,m), (m,n) or (n,n)
    size_t *order; // (vectors of the larger set): a shuffle's
};

// The mean of the kernel over the pairs of a (m,D) and b (n,D), or, if they are one set, over
// the pairs of two different vectors.
static double mean_kernel(const struct kernel_work *w, const double *a, size_t m, const double *b,
                          size_t n)
{
    double sum = 0;
    memset(w->k, 0, m * n * sizeof *w->k);
    op_product_f64(w->host, w->k, a, b, m, w->D, n);
    for (size_t i = 0; i < m; i++) {
        double row = 0;
        for (size_t j = 0; j < n; j++) {
            const double base = w->k[i * n + j] / (double)w->D + 1;
            row += a == b && i == j ? 0 : base * base * base;
        }
        sum += row;
    }
    return sum / (double)(a == b ? m * (m - 1) : m * n);
}

static double discrepancy(const struct kernel_work *w)
{
    return mean_kernel(w, w->x, w->m, w->x, w->m) + mean_kernel(w, w->y, w->n, w->y, w->n) -
           2 * mean_kernel(w, w->x, w->m, w->y, w->n);
}

// Copies `size` vectors of the set: all, or those that the first steps of a shuffle choose.
static void take_vectors(const struct kernel_work *w, double *to, const struct feature_set *set,
                         size_t size, const struct rng *rng)
{
    for (size_t i = 0; i < set->n; i++)
        w->order[i] = i;
    for (size_t i = 0; i < size; i++) {
        const size_t other = size < set->n ? i + rng_below(rng, i, set->n - i) : i;
        const size_t chosen = w->order[other];
        w->order[other] = w->order[i];
        w->order[i] = chosen;
        for (size_t d = 0; d < w->D; d++)
            to[i * w->D + d] = set->features[chosen * w->D + d];
    }
}

int kernel_distance(struct device *host, const struct feature_set *x, const struct feature_set *y,
                    size_t subsets, size_t size, uint64_t seed, double *mean, double *deviation)
{
    const size_t largest = x->n > y->n ? x->n : y->n;
    struct kernel_work w = {
        .host = host, .D = x->D, .m = subsets > 1 ? size : x->n, .n = subsets > 1 ? size : y->n};
    const size_t more = w.m > w.n ? w.m : w.n;
    w.x = mem_new(w.m, w.D * sizeof *w.x);
    w.y = mem_new(w.n, w.D * sizeof *w.y);
    w.k = mem_new(more, more * sizeof *w.k);
    w.order = mem_new(largest, sizeof *w.order);
    const int rc = w.x && w.y && w.k && w.order ? 0 : -1;
    double sum = 0, squares = 0;
    for (size_t s = 0; rc == 0 && s < subsets; s++) {
        take_vectors(&w, w.x, x, w.m, &(struct rng){seed, RNG_SUBSET, (uint32_t)s, 0});
        take_vectors(&w, w.y, y, w.n, &(struct rng){seed, RNG_SUBSET, (uint32_t)s, 1});
        const double value = discrepancy(&w);
        sum += value;
        squares += value * value;
    }
    *mean = sum / (double)subsets;
    *deviation = sqrt(fmax(squares / (double)subsets - *mean * *mean, 0));
    free(w.x);
    free(w.y);
    free(w.k);
    free(w.order);
    return rc;
}
