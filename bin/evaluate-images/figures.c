// Computes the figures of an evaluation. SPDX-License-Identifier: MIT
#include "bin/evaluate-images/figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/evaluation/frechet.h"
#include "lib/evaluation/kernel-distance.h"

static const struct {
    const char *name;
    enum figure figure;
} names[] = {{"fid", FIGURE_FID},
             {"sfid", FIGURE_SFID},
             {"inception-score", FIGURE_SCORE},
             {"precision", FIGURE_PRECISION},
             {"recall", FIGURE_RECALL},
             {"kid", FIGURE_KID}};
#define N_NAMES (sizeof names / sizeof *names)

const char *figure_name(enum figure figure)
{
    size_t i = 0;
    while (names[i].figure != figure)
        i++;
    return names[i].name;
}

int figures_parse(const char *list, unsigned *wanted)
{
    *wanted = 0;
    for (const char *at = list, *end; *at; at = *end ? end + 1 : end) {
        end = at + strcspn(at, ",");
        size_t i = 0;
        while (i < N_NAMES && (strlen(names[i].name) != (size_t)(end - at) ||
                               strncmp(names[i].name, at, (size_t)(end - at)) != 0))
            i++;
        if (i == N_NAMES)
            return error_set(STATUS_USAGE,
                             "--metrics: expected names among fid, sfid, inception-score, "
                             "precision, recall and kid, with commas between them, found '%.*s'",
                             (int)(end - at < 40 ? end - at : 40), at);
        *wanted |= names[i].figure;
    }
    return *wanted ? 0 : error_set(STATUS_USAGE, "--metrics: expected at least one name");
}

static int compute_distance(struct device *host, struct moments *a, struct moments *b,
                            const char *name, double *distance)
{
    if (a->D != b->D)
        return error_set(STATUS_DATA, "%s: expected %zu features an image, found %zu", name, a->D,
                         b->D);
    double *x = mem_new(a->D, a->D * sizeof *x), *y = mem_new(a->D, a->D * sizeof *y);
    int rc = x && y ? 0 : -1;
    if (rc == 0) {
        moments_finish(a, x);
        moments_finish(b, y);
        rc = frechet_distance(host, a->D, a->mean, x, b->mean, y, distance);
        if (rc < 0)
            error_prefix("%s", name);
    }
    free(x);
    free(y);
    return rc;
}

static size_t lesser(size_t a, size_t b)
{
    return a < b ? a : b;
}

// How many images of each set a figure of features needs.
static size_t least_images(enum figure figure)
{
    return figure == FIGURE_KID ? 2 : NEIGHBOURS + 1;
}

void figure_explain(enum figure figure, const struct image_set *samples,
                    const struct image_set *reference, char *why, size_t size)
{
    const char *without =
        figure == FIGURE_SFID ? samples->without_spatial : samples->without_features;
    if (!without && figure != FIGURE_SCORE)
        without = figure == FIGURE_SFID ? reference->without_spatial : reference->without_features;
    const struct image_set *smaller =
        reference && reference->n_features < samples->n_features ? reference : samples;
    if (figure == FIGURE_SCORE && !samples->score)
        snprintf(why, size, "it needs the Inception network (--inception)");
    else if (without)
        snprintf(why, size, "%s lacks the %s of all its images", without,
                 figure == FIGURE_SFID ? "spatial statistics (mu_s, sigma_s)" : "features");
    else
        snprintf(why, size, "expected at least %zu images, found %zu in %s", least_images(figure),
                 smaller->n_features, smaller->name);
}

static bool is_possible(enum figure figure, const struct image_set *samples,
                        const struct image_set *reference)
{
    if (figure == FIGURE_SCORE)
        return samples->n_scored && !samples->without_features;
    if (!reference || figure == FIGURE_FID)
        return reference;
    if (figure == FIGURE_SFID)
        return !samples->without_spatial && !reference->without_spatial;
    return !samples->without_features && !reference->without_features &&
           lesser(samples->n_features, reference->n_features) >= least_images(figure);
}

void figures_choose(struct figures *f, const struct image_set *samples,
                    const struct image_set *reference)
{
    f->possible = 0;
    for (unsigned figure = 1; figure < FIGURE_ALL; figure *= 2)
        if (f->wanted & figure && is_possible((enum figure)figure, samples, reference))
            f->possible |= figure;
}

static int compute_kid(struct figures *f, struct device *host, const struct feature_set *x,
                       const struct feature_set *y)
{
    f->kid_size = lesser(KID_SIZE, lesser(x->n, y->n));
    // Where every subset would be both whole sets, one says all.
    f->kid_subsets = f->kid_size == x->n && f->kid_size == y->n ? 1 : KID_SUBSETS;
    return kernel_distance(host, x, y, f->kid_subsets, f->kid_size, f->seed, &f->kid,
                           &f->kid_deviation);
}

int figures_compute(struct figures *f, struct device *host, struct image_set *samples,
                    struct image_set *reference)
{
    if (f->possible & FIGURE_SCORE)
        f->score = inception_score_finish(samples->score);
    if (f->possible & FIGURE_FID &&
        compute_distance(host, &samples->pool, &reference->pool, reference->name, &f->fid) < 0)
        return -1;
    if (f->possible & FIGURE_SFID && compute_distance(host, &samples->spatial, &reference->spatial,
                                                      reference->name, &f->sfid) < 0)
        return -1;
    if (!(f->possible & FIGURE_OF_FEATURES))
        return 0;
    const struct feature_set x = {samples->features, samples->n_features, samples->D};
    const struct feature_set y = {reference->features, reference->n_features, reference->D};
    if (f->possible & (FIGURE_PRECISION | FIGURE_RECALL) &&
        precision_recall(host, &x, &y, f->half, &f->precision, &f->recall) < 0)
        return -1;
    return f->possible & FIGURE_KID ? compute_kid(f, host, &x, &y) : 0;
}
