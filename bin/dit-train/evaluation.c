// Computes FID of a run's averaged weights. SPDX-License-Identifier: MIT
#include "bin/dit-train/evaluation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/images/class-choice.h"
#include "formats/images/image-statistics.h"
#include "formats/weights/inception-file.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/evaluation/frechet.h"
#include "lib/evaluation/moments.h"
#include "lib/tool/tool.h"

struct evaluation {
    struct device *device, *host; // host: one whose memory is the host's; may be the same
    struct preview *preview;
    struct ranks *ranks;
    struct inception *net;
    struct image_statistics reference; // on rank 0
    size_t count;
    char steps[24];
    uint8_t *images; // (PREVIEW_BATCH,side,side,3)
    float *spatial;  // (PREVIEW_BATCH,features): not used
    // (rows,features): rank 0 keeps those of one batch, or of the rank that it receives from, the
    // others those of all their images.
    float *features;
};

static int check_reference(const struct image_statistics *s, const char *path)
{
    bool finite = true;
    for (size_t i = 0; i < s->D; i++)
        finite = finite && isfinite(s->mean[i]);
    for (size_t i = 0; i < s->D * s->D; i++)
        finite = finite && isfinite(s->covariance[i]);
    return finite
               ? 0
               : error_set(STATUS_DATA, "%s: mu or sigma holds numbers that are not finite", path);
}

static int read_checked(struct evaluation *e, const struct arrays *arrays)
{
    const size_t side = preview_side(e->preview);
    struct image_origin origin;
    if (!arrays_have(arrays, "mu") || !arrays_have(arrays, "sigma"))
        return error_set(STATUS_DATA,
                         "%s: expected the arrays mu and sigma, which evaluate-images --save "
                         "writes, found none",
                         arrays->path);
    if (image_origin_read(&origin, arrays) < 0)
        return -1;
    if (origin.height && (origin.height != side || origin.width != side))
        return error_set(STATUS_DATA,
                         "%s: its images are of %zux%zu pixels, those to be drawn of %zux%zu",
                         arrays->path, origin.width, origin.height, side, side);
    if (image_statistics_read(&e->reference, arrays, "mu", "sigma", e->net->features) < 0)
        return -1;
    return check_reference(&e->reference, arrays->path);
}

static int read_reference(struct evaluation *e, const char *path)
{
    struct arrays arrays;
    if (arrays_open(&arrays, path) < 0)
        return -1;
    int rc = read_checked(e, &arrays);
    arrays_close(&arrays);
    return rc;
}

// Draws images first .. first + B - 1 and computes their features (B,features).
static int draw_features(struct evaluation *e, size_t first, size_t B, float *features)
{
    const struct class_choice balanced = {.classes = preview_classes(e->preview)};
    const size_t side = preview_side(e->preview);
    int32_t labels[PREVIEW_BATCH];
    for (size_t b = 0; b < B; b++)
        labels[b] = class_choice_get(&balanced, 0, first + b);
    return preview_draw(e->preview, first, labels, B, e->images) < 0
               ? -1
               : inception_features(e->net, e->images, B, side, side, features, e->spatial);
}

// The memory that is needed, on the device also that of the network for a batch, of black images.
static int allocate(struct evaluation *e)
{
    const size_t D = e->net->features, side = preview_side(e->preview);
    const int n_ranks = ranks_size(e->ranks);
    const size_t share = share_of(e->count, 0, n_ranks).count;
    const size_t rows = n_ranks == 1 || share < PREVIEW_BATCH ? PREVIEW_BATCH : share;
    e->images = mem_new(PREVIEW_BATCH * side, side * 3);
    e->spatial = mem_new(PREVIEW_BATCH, e->net->spatial_features * sizeof *e->spatial);
    e->features = mem_new(rows, D * sizeof *e->features);
    return e->images && e->spatial && e->features
               ? inception_features(e->net, e->images, PREVIEW_BATCH, side, side, e->features,
                                    e->spatial)
               : -1;
}

static int prepare(struct evaluation *e, const struct evaluation_settings *settings)
{
    char why[256];
    float *fc;
    uint64_t hash;
    e->host =
        device_uses_host_floats(e->device) ? e->device : device_open("cpu", settings->threads, why);
    if (!e->host)
        return error_set(STATUS_INTERNAL, "%s", why);
    if (preview_set_drawing(e->preview, e->steps, 1) < 0)
        return error_prefix("--eval-steps");
    if (!(e->net = inception_file_load(e->device, settings->inception, &fc, &hash)))
        return error_prefix("--inception");
    free(fc); // of the Inception Score
    if (ranks_rank(e->ranks) == 0 && read_reference(e, settings->reference) < 0)
        return error_prefix("--reference");
    if (allocate(e) < 0)
        return error_prefix("--eval-every");
    if (e->count <= e->net->features)
        tool_warn("--eval-count %zu: so few images give %zu features a covariance without full "
                  "rank, and FID is biased upwards",
                  e->count, e->net->features);
    return 0;
}

struct evaluation *evaluation_new(struct device *device, struct preview *preview,
                                  struct ranks *ranks, const struct evaluation_settings *settings)
{
    struct evaluation *e = mem_new(1, sizeof *e);
    if (!e)
        return NULL;
    *e = (struct evaluation){
        .device = device, .preview = preview, .ranks = ranks, .count = settings->count};
    snprintf(e->steps, sizeof e->steps, "%zu", settings->steps);
    if (prepare(e, settings) == 0)
        return e;
    evaluation_free(e);
    return NULL;
}

void evaluation_free(struct evaluation *e)
{
    if (!e)
        return;
    inception_free(e->net);
    image_statistics_free(&e->reference);
    if (e->host != e->device)
        device_close(e->host);
    free(e->images);
    free(e->spatial);
    free(e->features);
    free(e);
}

size_t evaluation_memory(const struct evaluation *e)
{
    return e ? inception_memory(e->net) : 0;
}

// Rank 0's features go to the moments at once, those of other ranks wait.
static int draw_share(struct evaluation *e, struct moments *moments)
{
    const struct share share = ranks_share(e->ranks, e->count);
    const bool waits = ranks_rank(e->ranks) > 0;
    int rc = preview_set_drawing(e->preview, e->steps, 1);
    for (size_t at = 0, B; rc == 0 && at < share.count && !tool_signal_stop(); at += B) {
        float *features = waits ? e->features + at * e->net->features : e->features;
        B = share.count - at < PREVIEW_BATCH ? share.count - at : PREVIEW_BATCH;
        progress_text("image %zu of %zu for FID", at, share.count);
        rc = draw_features(e, share.first + at, B, features);
        if (rc == 0 && !waits)
            moments_add(moments, features, B);
    }
    return rc;
}

// Adds the features of the other ranks to those of rank 0.
static void gather_features(struct evaluation *e, struct moments *moments)
{
    for (int rank = 1; rank < ranks_size(e->ranks); rank++) {
        const size_t n = share_of(e->count, rank, ranks_size(e->ranks)).count;
        ranks_receive(e->ranks, rank, e->features, n * e->net->features * sizeof *e->features);
        if (ranks_rank(e->ranks) == 0)
            moments_add(moments, e->features, n);
    }
}

static int compute_fid(struct evaluation *e, struct moments *moments, double *fid)
{
    const struct image_statistics *reference = &e->reference;
    double *covariance = mem_new(reference->D, reference->D * sizeof *covariance);
    if (!covariance)
        return -1;
    moments_finish(moments, covariance);
    int rc = frechet_distance(e->host, reference->D, moments->mean, covariance, reference->mean,
                              reference->covariance, fid);
    free(covariance);
    return rc;
}

int evaluation_run(struct evaluation *e, double *fid)
{
    const bool first = ranks_rank(e->ranks) == 0;
    struct moments moments = {0};
    *fid = NAN;
    int rc = first ? moments_init(&moments, e->host, e->net->features) : 0;
    if (rc == 0)
        rc = draw_share(e, &moments);
    rc = ranks_check(e->ranks, rc);
    if (rc == 0 && !ranks_any(e->ranks, tool_signal_stop())) {
        gather_features(e, &moments);
        rc = ranks_check(e->ranks, first ? compute_fid(e, &moments, fid) : 0);
    }
    moments_free(&moments);
    return rc;
}
