// The figures of an evaluation agree with those computed by others. SPDX-License-Identifier: MIT
#include <math.h>

#include "lib/base/rng.h"
#include "lib/evaluation/frechet.h"
#include "lib/evaluation/inception-score.h"
#include "lib/evaluation/kernel-distance.h"
#include "lib/evaluation/moments.h"
#include "tests/reference.h"

static struct device *host;

static bool near(double found, double expected, double limit)
{
    const double error = fabs(found - expected) / fmax(fabs(expected), 1e-300);
    if (!(error <= limit))
        diag("found %.17g, expected %.17g: relative error %.3g", found, expected, error);
    return error <= limit;
}

static double *reference_doubles(const struct weights *file, const char *name)
{
    const struct weight *tensor = reference_find(file, name);
    double *values = mem_new(weight_count(tensor), sizeof *values);
    if (!values)
        bail_out();
    weight_read(tensor, 0, weight_rows(tensor), values);
    return values;
}

static double expected(const struct weights *file, const char *name)
{
    double *value = reference_doubles(file, name), copy = *value;
    free(value);
    return copy;
}

static struct feature_set features(const struct weights *file, const char *name)
{
    const struct weight *tensor = reference_find(file, name);
    return (struct feature_set){reference_floats(file, name, NULL), tensor->shape[0],
                                tensor->shape[1]};
}

// What moments_finish gives for a set that comes in `parts` merged parts.
struct normal {
    double *mean, *covariance;
};

static struct normal fit(const struct feature_set *set, size_t parts)
{
    struct moments all, part;
    struct normal normal = {mem_new(set->D, sizeof(double)),
                            mem_new(set->D, set->D * sizeof(double))};
    if (!normal.mean || !normal.covariance || moments_init(&all, host, set->D) < 0)
        bail_out();
    for (size_t p = 0; p < parts; p++) {
        const size_t first = p * set->n / parts, end = (p + 1) * set->n / parts;
        if (moments_init(&part, host, set->D) < 0)
            bail_out();
        for (size_t i = first; i < end; i += 50)
            moments_add(&part, set->features + i * set->D, end - i < 50 ? end - i : 50);
        moments_finish(&part, normal.covariance);
        if (parts == 1)
            memcpy(normal.mean, part.mean, set->D * sizeof(double));
        else
            moments_merge(&all, part.n, part.mean, normal.covariance);
        moments_free(&part);
    }
    if (parts > 1) {
        moments_finish(&all, normal.covariance);
        memcpy(normal.mean, all.mean, set->D * sizeof(double));
    }
    moments_free(&all);
    return normal;
}

static double distance(size_t D, const struct normal *a, const struct normal *b)
{
    double found;
    if (frechet_distance(host, D, a->mean, a->covariance, b->mean, b->covariance, &found) < 0)
        bail_out();
    return found;
}

static void free_normal(struct normal *normal)
{
    free(normal->mean);
    free(normal->covariance);
}

static bool all_near(const double *found, const double *wanted, size_t n, double limit)
{
    double error = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        error = worse(error, fabs(found[i] - wanted[i]));
        largest = worse(largest, fabs(wanted[i]));
    }
    return near(error + largest, largest, limit);
}

static void test_frechet(const struct weights *file, const char *samples, const char *reference,
                         const char *figure, double value)
{
    struct feature_set a = features(file, samples), b = features(file, reference);
    struct normal x = fit(&a, 1), y = fit(&b, 1), merged = fit(&a, 3);
    ok(near(distance(a.D, &x, &y), value, 1e-9), "%s has the expected value", figure);
    ok(all_near(merged.covariance, x.covariance, a.D * a.D, 1e-12) &&
           all_near(merged.mean, x.mean, a.D, 1e-12),
       "... and parts merge into the moments of the whole");
    ok(fabs(distance(a.D, &x, &x)) < 1e-9, "... and a set is at 0 from itself");
    free_normal(&x), free_normal(&y), free_normal(&merged);
    free((float *)a.features), free((float *)b.features);
}

static void test_moments(const struct weights *file, const char *set, const char *mean,
                         const char *covariance)
{
    struct feature_set a = features(file, set);
    struct normal x = fit(&a, 1);
    double *mu = reference_doubles(file, mean), *sigma = reference_doubles(file, covariance);
    ok(all_near(x.mean, mu, a.D, 1e-9) && all_near(x.covariance, sigma, a.D * a.D, 1e-9),
       "the mean and covariance of %s have the expected values", set);
    free(mu), free(sigma), free_normal(&x), free((float *)a.features);
}

// parts: splits that the samples make.
static void test_inception_score(const struct weights *file, size_t parts, const char *figure)
{
    struct feature_set a = features(file, "sample"), w = features(file, "logits_weight");
    struct inception_score score;
    if (inception_score_init(&score, host, w.features, w.n, w.D, a.n / parts) < 0)
        bail_out();
    for (size_t i = 0; i < a.n; i += 10)
        inception_score_add(&score, a.features + i * a.D, 10);
    ok(near(inception_score_finish(&score), expected(file, figure), 1e-9),
       "%s has the expected value", figure);
    inception_score_free(&score);
    free((float *)a.features), free((float *)w.features);
}

static void test_neighbours(const struct weights *file)
{
    struct feature_set a = features(file, "sample"), b = features(file, "reference");
    double precision, recall, half_precision, half_recall;
    if (precision_recall(host, &a, &b, false, &precision, &recall) < 0 ||
        precision_recall(host, &a, &b, true, &half_precision, &half_recall) < 0)
        bail_out();
    ok(near(precision, expected(file, "precision"), 1e-9), "precision has the expected value");
    ok(near(recall, expected(file, "recall"), 1e-9), "recall has the expected value");
    ok(fabs(half_precision - precision) < 0.1 && fabs(half_recall - recall) < 0.1,
       "half distances change precision and recall little");
    a.n = NEIGHBOURS;
    ok(precision_recall(host, &a, &b, false, &precision, &recall) < 0 &&
           strcmp(error_message(),
                  "expected at least 4 images for precision and recall, found 3") == 0,
       "precision of fewer images than a radius needs is an error");
    free((float *)a.features), free((float *)b.features);
}

static float square_distance(const float *a, const float *b)
{
    return (a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]);
}

// The radius of point i of a set of small whole numbers, and whether point u lies within one, by
// plain loops.
static float plain_radius(const struct feature_set *set, size_t i)
{
    float nearest[NEIGHBOURS + 1] = {INFINITY, INFINITY, INFINITY, INFINITY};
    for (size_t j = 0; j < set->n; j++) {
        float d = square_distance(set->features + 2 * i, set->features + 2 * j);
        for (size_t k = 0; k <= NEIGHBOURS; k++)
            if (d < nearest[k]) {
                const float larger = nearest[k];
                nearest[k] = d;
                d = larger;
            }
    }
    return nearest[NEIGHBOURS];
}

static double plain_share(const struct feature_set *points, const struct feature_set *set,
                          const float *radii)
{
    size_t within = 0;
    for (size_t i = 0; i < points->n; i++)
        for (size_t j = 0; j < set->n; j++)
            if (square_distance(points->features + 2 * i, set->features + 2 * j) <= radii[j]) {
                within++;
                break;
            }
    return (double)within / (double)points->n;
}

// Points of a grid, so that distances are exact, in more than a tile.
static void test_tiles(void)
{
    enum { N = 2100, M = 2500 };
    float *x = mem_new(N, 2 * sizeof *x), *y = mem_new(M, 2 * sizeof *y);
    float *x_radii = mem_new(N, sizeof *x_radii), *y_radii = mem_new(M, sizeof *y_radii);
    const struct feature_set a = {x, N, 2}, b = {y, M, 2};
    const struct rng rng = {tap_seed(1), RNG_TEST, 0, 0};
    double precision, recall;
    if (!x || !y || !x_radii || !y_radii)
        bail_out();
    for (size_t i = 0; i < 2 * N; i++)
        x[i] = (float)rng_below(&rng, i, 400);
    for (size_t i = 0; i < 2 * M; i++)
        y[i] = (float)(200 + rng_below(&rng, 2 * N + i, 300));
    for (size_t i = 0; i < N; i++)
        x_radii[i] = plain_radius(&a, i);
    for (size_t i = 0; i < M; i++)
        y_radii[i] = plain_radius(&b, i);
    if (precision_recall(host, &a, &b, false, &precision, &recall) < 0)
        bail_out();
    ok(precision == plain_share(&a, &b, y_radii) && precision > 0.1 && precision < 0.9,
       "precision over several tiles is that of plain loops");
    ok(recall == plain_share(&b, &a, x_radii) && recall > 0.1 && recall < 0.9,
       "recall over several tiles is that of plain loops");
    free(x), free(y), free(x_radii), free(y_radii);
}

static void test_kernel_distance(const struct weights *file)
{
    struct feature_set a = features(file, "sample"), b = features(file, "reference");
    double whole, mean, deviation, again, other;
    if (kernel_distance(host, &a, &b, 1, b.n, 0, &whole, &deviation) < 0 ||
        kernel_distance(host, &a, &b, 100, b.n / 2, 1, &mean, &deviation) < 0 ||
        kernel_distance(host, &a, &b, 100, b.n / 2, 1, &again, &deviation) < 0 ||
        kernel_distance(host, &a, &b, 100, b.n / 2, 2, &other, &deviation) < 0)
        bail_out();
    ok(near(whole, expected(file, "kid_all"), 1e-9),
       "KID of the whole sets has the expected value");
    ok(fabs(mean - whole) < deviation && deviation > 0, "KID of subsets is near that of the whole");
    ok(again == mean && other != mean, "KID of subsets depends on the seed alone");
    free((float *)a.features), free((float *)b.features);
}

static void test_broken(void)
{
    const double mean[2] = {0, 1}, good[4] = {1, 0, 0, 1}, bad[4] = {1, NAN, 0, 1};
    double found;
    ok(frechet_distance(host, 2, mean, good, mean, bad, &found) < 0 &&
           strstr(error_message(), "not finite"),
       "a covariance with NaN is an error");
}

int main(void)
{
    char why[256];
    host = device_open("cpu", 2, why);
    struct weights file = reference_open("evaluation");
    test_moments(&file, "reference", "mu", "sigma");
    test_moments(&file, "reference_spatial", "mu_s", "sigma_s");
    test_frechet(&file, "sample", "reference", "fid", expected(&file, "fid"));
    test_frechet(&file, "sample_spatial", "reference_spatial", "sfid", expected(&file, "sfid"));
    // Computed with 40 digits. The file's own, by roots of eigenvalues, is off by 1.7e-8 of it.
    test_frechet(&file, "few_sample", "few_reference", "few_fid", 31.09767107008401);
    test_inception_score(&file, 1, "inception_score_all");
    test_inception_score(&file, 2, "inception_score_250");
    test_neighbours(&file);
    test_tiles();
    test_kernel_distance(&file);
    test_broken();
    weights_close(&file);
    device_close(host);
    return tap_done();
}
