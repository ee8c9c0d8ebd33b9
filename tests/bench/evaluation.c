// Times what evaluate-images does with features of the published width: FID, and precision and
// recall of 50,000 images against 10,000, or as many as two operands say.
// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/evaluation/frechet.h"
#include "lib/evaluation/moments.h"
#include "lib/evaluation/neighbours.h"

#define D ((size_t)2048)

// Random features (n,D) of which each has its own spread, `scale` at the most.
static float *make_features(size_t n, double scale)
{
    float *x = mem_new(n, D * sizeof *x);
    uint32_t random = 1;
    for (size_t i = 0; x && i < n * D; i++) {
        random = random * 1664525 + 1013904223;
        x[i] = (float)(scale * (random >> 8) * 0x1p-24 * (double)(i % D + 1) / (double)D);
    }
    return x;
}

static int time_fid(struct device *host, const struct feature_set *x, const struct feature_set *y)
{
    struct moments a = {0}, b = {0};
    double *s = mem_new(D, D * sizeof *s), *t = mem_new(D, D * sizeof *t), fid;
    if (!s || !t || moments_init(&a, host, D) < 0 || moments_init(&b, host, D) < 0)
        return -1;
    double start = clock_seconds();
    moments_add(&a, x->features, x->n);
    moments_add(&b, y->features, y->n);
    moments_finish(&a, s);
    moments_finish(&b, t);
    printf("mean and covariance of %zu images: %.2f s\n", x->n + y->n, clock_seconds() - start);
    start = clock_seconds();
    int rc = frechet_distance(host, D, a.mean, s, b.mean, t, &fid);
    printf("FID of %zux%zu statistics: %.2f s\n", D, D, clock_seconds() - start);
    moments_free(&a);
    moments_free(&b);
    free(s);
    free(t);
    return rc;
}

int main(int argc, char **argv)
{
    const size_t n = argc > 2 ? strtoul(argv[1], NULL, 10) : 50000;
    const size_t m = argc > 2 ? strtoul(argv[2], NULL, 10) : 10000;
    const struct feature_set x = {make_features(n, 1), n, D}, y = {make_features(m, 1.1), m, D};
    char why[256];
    struct device *host = device_open("cpu", (int)sysconf(_SC_NPROCESSORS_ONLN), why);
    if (!host)
        return fprintf(stderr, "evaluation: %s\n", why), 70;
    double start = clock_seconds(), precision, recall;
    struct rusage usage;
    int rc = x.features && y.features ? 0 : -1;
    if (rc == 0)
        rc = precision_recall(host, &x, &y, false, &precision, &recall);
    getrusage(RUSAGE_SELF, &usage);
    if (rc == 0)
        printf("precision and recall of %zu x %zu images: %.1f s, %ld MB\n", n, m,
               clock_seconds() - start, usage.ru_maxrss >> 10);
    if (rc == 0)
        rc = time_fid(host, &x, &y);
    if (rc < 0)
        fprintf(stderr, "evaluation: %s\n", error_message());
    free((void *)x.features);
    free((void *)y.features);
    device_close(host);
    return rc < 0 ? 70 : 0;
}
