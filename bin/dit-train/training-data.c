// The batches of latents that the steps take. SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "bin/dit-train/training.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"

static int make_batch(struct training_batch *b, size_t rows, const struct latents_shape *shape)
{
    size_t n;
    *b = (struct training_batch){.state = BATCH_NONE};
    if (!size_mul(rows, shape->channels * shape->height * shape->width, &n))
        return error_set(STATUS_USAGE, "a batch of %zu latents is too large", rows);
    b->mean = mem_new(n, sizeof *b->mean);
    b->std = shape->spread ? mem_new(n, sizeof *b->std) : NULL;
    b->labels = mem_new(rows, sizeof *b->labels);
    return b->mean && b->labels && (b->std || !shape->spread) ? 0 : -1;
}

int training_batch_init(struct training *t)
{
    size_t rows = ranks_share(t->ranks, t->settings.batch).count;
    return ranks_check(t->ranks, make_batch(&t->batch, rows, latents_shape(t->latents)));
}

void training_batch_free(struct training *t)
{
    free(t->batch.mean);
    free(t->batch.std);
    free(t->batch.labels);
}

// Reads the rank's share of the next n records and skips the other ranks'. Returns the number read,
// which is less than the share only at the end of a pipe; -1 with an error.
static long read_share(struct training *t, size_t n)
{
    struct training_batch *b = &t->batch;
    struct share share = ranks_share(t->ranks, n);
    if (latents_skip(t->latents, share.first) < 0)
        return -1;
    long got = latents_read(t->latents, share.count, b->mean, b->std, b->labels);
    if (got >= 0 && latents_skip(t->latents, n - share.first - share.count) < 0)
        return -1;
    return got;
}

// 1 if a whole batch was sent to the trainer, 0 if the data has ended, -1 with an error.
static int send_batch(struct training *t)
{
    struct training_batch *b = &t->batch;
    long got = read_share(t, t->settings.batch);
    if (got < 0)
        return -1;
    if ((size_t)got == ranks_share(t->ranks, t->settings.batch).count)
        return trainer_send(t->trainer, b->mean, b->std, b->labels) < 0 ? -1 : 1;
    return latents_position(t->latents) > (uint64_t)got
               ? 0
               : error_set(STATUS_DATA, "only %ld latents, but a batch takes %zu (--batch)", got,
                           t->settings.batch);
}

void training_read(struct training *t)
{
    int rc = send_batch(t);
    t->batch.state = rc < 0 ? BATCH_FAILED : rc == 0 ? BATCH_SHORT : BATCH_SENT;
    if (rc < 0)
        error_save(&t->batch.error);
}

// The number of records that the limits ask for; 0: all of a pipe.
static uint64_t count_wanted(const struct training *t)
{
    uint64_t steps = (uint64_t)t->options->steps, epochs = (uint64_t)t->options->epochs;
    uint64_t records = latents_shape(t->latents)->records, n = (epochs ? epochs : 1) * records;
    if (records == 0 || !steps)
        return n;
    return epochs && n < steps * t->settings.batch ? n : steps * t->settings.batch;
}

int training_dry_run(struct training *t)
{
    uint64_t wanted = count_wanted(t), records = latents_shape(t->latents)->records;
    uint64_t done = 0;
    long got = 1;
    if (training_batch_init(t) < 0)
        return -1;
    double start = clock_seconds();
    progress_start("latents", wanted);
    while (got > 0 && (wanted == 0 || done < wanted) && !tool_signal_stop()) {
        size_t n = t->settings.batch;
        if (wanted && wanted - done < n)
            n = (size_t)(wanted - done);
        got = read_share(t, n);
        uint64_t now = latents_position(t->latents);
        progress_add(now - done);
        done = now;
    }
    progress_finish();
    if (ranks_check(t->ranks, got < 0 ? -1 : 0) < 0)
        return -1;
    double seconds = clock_seconds() - start;
    tool_note("%llu latents, %.2f epochs of %llu, in %.2f s: %.0f latents/s; %.2f GB of memory",
              (unsigned long long)done, records ? (double)done / (double)records : 1.0,
              (unsigned long long)(records ? records : done), seconds, (double)done / seconds,
              (double)latents_memory(t->latents) * 1e-9);
    return 0;
}
