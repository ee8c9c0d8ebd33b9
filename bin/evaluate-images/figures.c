// Computes the figures of an evaluation. SPDX-License-Identifier: MIT
#include "bin/evaluate-images/figures.h"

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

static int compute_of_features(struct figures *f, struct device *host,
                               const struct image_set *samples, const struct image_set *reference)
{
    const struct feature_set x = {samples->features, samples->n_features, samples->D};
    const struct feature_set y = {reference->features, reference->n_features, reference->D};
    const size_t least = lesser(x.n, y.n);
    if (f->wanted & (FIGURE_PRECISION | FIGURE_RECALL) && least > NEIGHBOURS) {
        if (precision_recall(host, &x, &y, f->half, &f->precision, &f->recall) < 0)
            return -1;
        f->found |= f->wanted & (FIGURE_PRECISION | FIGURE_RECALL);
    }
    if (f->wanted & FIGURE_KID && least > 1) {
        f->kid_size = lesser(KID_SIZE, least);
        if (kernel_distance(host, &x, &y, KID_SUBSETS, f->kid_size, f->seed, &f->kid,
                            &f->kid_deviation) < 0)
            return -1;
        f->found |= FIGURE_KID;
    }
    return 0;
}

int figures_compute(struct figures *f, struct device *host, struct image_set *samples,
                    struct image_set *reference)
{
    if (f->wanted & FIGURE_SCORE && samples->n_scored) {
        f->score = inception_score_finish(samples->score);
        f->found |= FIGURE_SCORE;
    }
    if (!reference)
        return 0;
    if (f->wanted & FIGURE_FID) {
        if (compute_distance(host, &samples->pool, &reference->pool, reference->name, &f->fid) < 0)
            return -1;
        f->found |= FIGURE_FID;
    }
    if (f->wanted & FIGURE_SFID && samples->spatial.D && reference->spatial.D) {
        if (compute_distance(host, &samples->spatial, &reference->spatial, reference->name,
                             &f->sfid) < 0)
            return -1;
        f->found |= FIGURE_SFID;
    }
    return f->wanted & FIGURE_OF_FEATURES && samples->D == reference->D
               ? compute_of_features(f, host, samples, reference)
               : 0;
}
