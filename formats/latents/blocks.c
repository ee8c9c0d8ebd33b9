// Plans the blocks of each epoch and loads them ahead. SPDX-License-Identifier: MIT
//
// A thread of its own loads the next block while the present one is used, so each may take half of
// the memory. Data that fits as a whole is one block, which is loaded once and shuffled anew each
// epoch.
#include "formats/latents/blocks.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"
#include "lib/base/rng.h"

// Bytes of memory that a frame takes beside its records: for its header, the page that it begins
// with, and its entries in lists.
#define FRAME_OVERHEAD (8 << 10)
// Bytes that a thread takes while it decompresses a frame: for zstd's state, and at most so much of
// the compressed frame.
#define DECODER_SIZE   (512 << 10)
#define COMPRESSED_MAX (8 << 20)

struct frame_id {
    uint32_t file, index; // index: among the file's frames
};

// The next block to load.
struct epoch_plan {
    uint64_t epoch, block;  // block: its number within the epoch
    size_t next;            // index in `order` of its first frame
    struct frame_id *order; // (n_frames): the frames as they come in the epoch; NULL for a pipe
};

struct block_loader {
    const struct block_source *source;
    struct epoch_plan plan; // the thread's while it runs
    struct pool *pool;      // decompresses frames of files
    size_t skip;            // records of the next block to pass over
    pthread_t thread;
    bool running;         // there is a thread
    pthread_mutex_t lock; // of what follows
    pthread_cond_t changed;
    bool stop;                  // the thread is to end
    struct record_block *ready; // loaded, not yet handed out
    bool over;                  // no block follows
    bool failed;                // because of `error`
    struct error error;
};

uint64_t block_frame_size(const struct schema *schema, uint64_t records)
{
    return records * (schema_record_size(schema) + sizeof(struct block_record)) + FRAME_OVERHEAD;
}

static uint64_t block_size_max(const struct block_source *source)
{
    return source->cached ? source->size : source->memory / 2;
}

uint64_t block_source_memory(const struct block_source *source)
{
    size_t threads = source->threads;
    uint64_t records = source->pipe ? schema_rows_aim(source->schema) : source->frame_records_max;
    uint64_t frame = block_frame_size(source->schema, records), half = block_size_max(source);
    uint64_t compressed = frame < COMPRESSED_MAX ? frame : COMPRESSED_MAX;
    uint64_t blocks = source->cached ? source->size : 2 * (half > frame ? half : frame);
    // Each block ends with the frame that exceeds its half; the reader holds further frames.
    if (source->pipe)
        blocks += 2 * frame + 4 * threads * frame;
    return blocks + threads * (compressed + DECODER_SIZE);
}

void record_block_free(struct record_block *block)
{
    if (!block)
        return;
    for (size_t i = 0; i < block->n_frames; i++)
        batch_free(block->frames[i].batch);
    free(block->frames);
    free(block->order);
    free(block);
}

// Takes over the batch, also when it fails.
static int add_frame(struct record_block *block, struct batch *batch, uint64_t first)
{
    if (mem_grow(&block->frames, block->n_frames, 1, sizeof *block->frames) < 0) {
        batch_free(batch);
        return -1;
    }
    block->frames[block->n_frames++] = (struct block_frame){batch, first};
    block->n_records += batch->rows;
    return 0;
}

// RNG_ORDER's sample 0 orders the frames of an epoch, and sample 1 + i the records of its block i.
// Both are the inside-out variant of the Fisher-Yates shuffle.
static int shuffle_block(const struct block_loader *l, struct record_block *block, uint64_t epoch,
                         uint64_t number)
{
    if (!block->order && !(block->order = mem_new(block->n_records, sizeof *block->order)))
        return -1;
    struct rng rng = {l->source->seed, RNG_ORDER, (uint32_t)epoch, 1 + number};
    size_t n = 0;
    for (size_t i = 0; i < block->n_frames; i++) {
        for (size_t row = 0; row < block->frames[i].batch->rows; row++, n++) {
            size_t at = rng_below(&rng, n, n + 1);
            block->order[n] = block->order[at];
            block->order[at] = (struct block_record){(uint32_t)i, (uint32_t)row};
        }
    }
    block->epoch = epoch;
    block->next = 0;
    return 0;
}

// Cached frames keep the files' order, so that it does not matter in which epoch they were loaded.
static void plan_epoch(struct block_loader *l, uint64_t epoch)
{
    const struct block_source *source = l->source;
    struct frame_id *order = l->plan.order;
    struct rng rng = {source->seed, RNG_ORDER, (uint32_t)epoch, 0};
    size_t n = 0;
    for (size_t i = 0; i < source->n_files; i++) {
        for (size_t k = 0; k < tstream_file_frames(source->files[i]); k++, n++) {
            size_t at = source->cached ? n : rng_below(&rng, n, n + 1);
            order[n] = order[at];
            order[at] = (struct frame_id){(uint32_t)i, (uint32_t)k};
        }
    }
    l->plan = (struct epoch_plan){.epoch = epoch, .order = order};
}

// Returns the end of the planned block in plan.order; *records is how many it has.
static size_t plan_block_end(const struct block_loader *l, uint64_t *records)
{
    const struct block_source *source = l->source;
    size_t end = l->plan.next;
    uint64_t size = 0;
    for (*records = 0; end < source->n_frames; end++) {
        struct frame_id id = l->plan.order[end];
        const struct tstream_file *file = source->files[id.file];
        uint64_t n = tstream_file_first(file, id.index + 1) - tstream_file_first(file, id.index);
        size += block_frame_size(source->schema, n);
        if (end > l->plan.next && size > block_size_max(source))
            break;
        *records += n;
    }
    return end;
}

static void plan_advance(struct block_loader *l, size_t end)
{
    l->plan.next = end;
    l->plan.block++;
    if (l->plan.order && end == l->source->n_frames)
        plan_epoch(l, l->plan.epoch + 1);
}

static bool must_stop(struct block_loader *l)
{
    pthread_mutex_lock(&l->lock);
    bool stop = l->stop;
    pthread_mutex_unlock(&l->lock);
    return stop;
}

struct frame_job {
    const struct tstream_file *file;
    size_t index;
    uint64_t file_first;
    struct batch *batch; // NULL with an error
    struct error error;
};

static void frame_job_run(void *arg)
{
    struct frame_job *job = arg;
    if (tstream_file_read(job->file, job->index, &job->batch) < 0)
        error_save(&job->error);
}

// Loads the planned block's frames from the files. On failure the block holds some of them.
static int load_from_files(struct block_loader *l, struct record_block *block, size_t end)
{
    size_t n = end - l->plan.next, started = 0;
    struct frame_job *jobs = mem_new(n, sizeof *jobs);
    if (!jobs)
        return -1;
    for (; started < n && !must_stop(l); started++) {
        struct frame_id id = l->plan.order[l->plan.next + started];
        jobs[started] = (struct frame_job){
            .file = l->source->files[id.file],
            .index = id.index,
            .file_first = l->source->file_first[id.file],
        };
        if (pool_full(l->pool))
            pool_collect(l->pool, POOL_WAIT);
        pool_submit(l->pool, frame_job_run, &jobs[started]);
    }
    while (pool_collect(l->pool, POOL_WAIT))
        ;
    int rc = 0;
    for (size_t i = 0; i < started; i++) {
        struct batch *batch = jobs[i].batch;
        if (!batch)
            rc = error_restore(&jobs[i].error);
        else if (add_frame(block, batch, jobs[i].file_first + batch->first) < 0)
            rc = -1;
    }
    free(jobs);
    return rc;
}

static int load_from_pipe(struct block_loader *l, struct record_block *block)
{
    const struct block_source *source = l->source;
    struct batch *batch;
    for (uint64_t size = 0; size < block_size_max(source) && !must_stop(l);) {
        int rc = tstream_read(source->pipe, &batch);
        if (rc <= 0)
            return rc;
        size += block_frame_size(source->schema, batch->rows);
        if (add_frame(block, batch, batch->first) < 0)
            return -1;
    }
    return 0;
}

// Loads the planned block. NULL at the end of a pipe; NULL with an error and *failed set.
static struct record_block *load_block(struct block_loader *l, bool *failed)
{
    struct record_block *block = mem_new(1, sizeof *block);
    uint64_t records;
    size_t end = plan_block_end(l, &records);
    int rc = -1;
    if (block)
        rc = l->source->pipe ? load_from_pipe(l, block) : load_from_files(l, block, end);
    if (rc == 0 && block->n_records)
        rc = shuffle_block(l, block, l->plan.epoch, l->plan.block);
    *failed = rc < 0;
    if (rc < 0 || block->n_records == 0) {
        record_block_free(block);
        return NULL;
    }
    plan_advance(l, end);
    return block;
}

static void *load_ahead(void *arg)
{
    struct block_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->over) {
        while (l->ready && !l->stop)
            pthread_cond_wait(&l->changed, &l->lock);
        if (l->stop)
            break;
        pthread_mutex_unlock(&l->lock);
        bool failed;
        struct record_block *block = load_block(l, &failed);
        if (failed)
            error_save(&l->error);
        pthread_mutex_lock(&l->lock);
        l->ready = block;
        l->failed = failed;
        l->over = !block || l->source->cached;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static int loader_start(struct block_loader *l)
{
    l->stop = l->over = l->failed = false;
    int rc = pthread_create(&l->thread, NULL, load_ahead, l);
    if (rc)
        return error_set(STATUS_INTERNAL, "cannot start a thread: %s", strerror(rc));
    l->running = true;
    return 0;
}

static void loader_stop(struct block_loader *l)
{
    if (!l->running)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    l->running = false;
    record_block_free(l->ready);
    l->ready = NULL;
}

struct block_loader *block_loader_new(const struct block_source *source)
{
    struct block_loader *l = mem_new(1, sizeof *l);
    if (!l)
        return NULL;
    l->source = source;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (source->pipe)
        return l;
    size_t threads = source->threads;
    l->plan.order = mem_new(source->n_frames, sizeof *l->plan.order);
    l->pool = l->plan.order ? pool_new(threads, 2 * threads) : NULL;
    if (!l->pool) {
        block_loader_free(l);
        return NULL;
    }
    plan_epoch(l, 0);
    return l;
}

int block_loader_next(struct block_loader *l, struct record_block **block)
{
    if (*block && l->source->cached)
        return shuffle_block(l, *block, (*block)->epoch + 1, 0) < 0 ? -1 : 1;
    record_block_free(*block);
    *block = NULL;
    if (!l->running && loader_start(l) < 0)
        return -1;
    pthread_mutex_lock(&l->lock);
    while (!l->ready && !l->over)
        pthread_cond_wait(&l->changed, &l->lock);
    *block = l->ready;
    l->ready = NULL;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (!*block)
        return l->failed ? error_restore(&l->error) : 0;
    (*block)->next = l->skip;
    l->skip = 0;
    return 1;
}

int block_loader_seek(struct block_loader *l, uint64_t epoch, uint64_t record,
                      struct record_block **block)
{
    if (*block && l->source->cached) {
        if (shuffle_block(l, *block, epoch, 0) < 0)
            return -1;
        (*block)->next = record;
        return 0;
    }
    loader_stop(l);
    record_block_free(*block);
    *block = NULL;
    plan_epoch(l, epoch);
    uint64_t records;
    for (size_t end; end = plan_block_end(l, &records), record >= records; record -= records)
        plan_advance(l, end);
    l->skip = record;
    return 0;
}

void block_loader_free(struct block_loader *l)
{
    if (!l)
        return;
    loader_stop(l);
    pool_free(l->pool, NULL);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l->plan.order);
    free(l);
}
