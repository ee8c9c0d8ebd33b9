// Latents for training: shuffled, read ahead, in bounded memory.
// SPDX-License-Identifier: MIT
//
// A block is a number of whole frames and an order of their records. A thread
// of its own loads the next block while the present one is handed out, so each
// may take half of the memory; data that fits as a whole is one block, loaded
// once and put into a new order each epoch.
#include "formats/latents/latents.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/latents/latent-fields.h"
#include "formats/latents/shards.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"
#include "lib/base/rng.h"
#include "lib/base/scratch.h"

// Of memory, bytes for a frame beside its records: its header, the page that it begins with, its
// places in lists. And for a thread that decodes one: zstd's state; the compressed frame, of which
// no more is held than this.
enum { FRAME_COST = 8 << 10, DECODER_COST = 512 << 10, COMPRESSED_MAX = 8 << 20 };

struct frame {
    uint32_t file, index; // the index-th of the file
};

struct entry {
    uint32_t frame, row; // of the block
};

struct loaded_frame {
    struct batch *batch;
    uint64_t first; // index of its first record, over all files
};

struct block {
    uint64_t epoch;
    size_t n_frames;
    struct loaded_frame *frames;
    size_t n_entries, next; // in `entries`, the order of the records
    struct entry *entries;
};

// The block to be loaded next.
struct plan {
    uint64_t epoch, block; // the block's number within the epoch
    size_t next;           // its first frame in `order`
    struct frame *order;   // the frames of the epoch; NULL for a pipe
};

struct latents {
    struct latents_options options;
    struct latents_shape shape;
    struct latent_fields fields;
    int label; // index of the tensor or -1
    const struct schema *schema;
    uint64_t fingerprint, *hashes; // of all; of each file
    uint64_t position;

    struct tstream_reader *pipe; // one pass; otherwise files:
    size_t n_files, n_frames;
    struct tstream_file **files;
    uint64_t *file_first; // index of each file's first record
    int spool;            // descriptor or -1
    uint64_t size;        // bytes of all records, as FRAME_COST counts
    uint64_t rows_max;    // records of the largest frame
    bool cached;          // all in one block
    struct pool *pool;    // decompresses

    struct block *block; // being handed out
    size_t skip;         // records of the next block that were handed out before
    struct plan plan;    // the loader's while it runs
    pthread_t loader;
    bool loading;         // there is a loader
    pthread_mutex_t lock; // of what follows
    pthread_cond_t changed;
    bool stop;           // the loader is to end
    struct block *ready; // made by the loader
    bool over;           // no block follows
    bool failed;         // because of `error`
    struct error error;
};

static void free_block(struct block *block)
{
    if (!block)
        return;
    for (size_t i = 0; i < block->n_frames; i++)
        batch_free(block->frames[i].batch);
    free(block->frames);
    free(block->entries);
    free(block);
}

// Takes the batch.
static int add_frame(struct block *block, struct batch *batch, uint64_t first)
{
    if (mem_grow(&block->frames, block->n_frames, 1, sizeof *block->frames) < 0) {
        batch_free(batch);
        return -1;
    }
    block->frames[block->n_frames++] = (struct loaded_frame){batch, first};
    block->n_entries += batch->rows;
    return 0;
}

// Of RNG_ORDER's draws, sample 0 orders the frames of an epoch, sample 1 + i
// the records of its block i. Both by Fisher and Yates, inside out.
static int order_block(const struct latents *l, struct block *block, uint64_t epoch,
                       uint64_t number)
{
    if (!block->entries && !(block->entries = mem_new(block->n_entries, sizeof(struct entry))))
        return -1;
    struct rng rng = {l->options.seed, RNG_ORDER, (uint32_t)epoch, 1 + number};
    size_t n = 0;
    for (size_t i = 0; i < block->n_frames; i++) {
        for (size_t row = 0; row < block->frames[i].batch->rows; row++, n++) {
            size_t at = rng_below(&rng, n, n + 1);
            block->entries[n] = block->entries[at];
            block->entries[at] = (struct entry){(uint32_t)i, (uint32_t)row};
        }
    }
    block->epoch = epoch;
    block->next = 0;
    return 0;
}

// Data that is kept has its frames in their own order, so that it does not
// matter in which epoch they were loaded.
static void plan_epoch(struct latents *l, uint64_t epoch)
{
    struct frame *order = l->plan.order;
    struct rng rng = {l->options.seed, RNG_ORDER, (uint32_t)epoch, 0};
    size_t n = 0;
    for (size_t i = 0; i < l->n_files; i++) {
        for (size_t k = 0; k < tstream_file_frames(l->files[i]); k++, n++) {
            size_t at = l->cached ? n : rng_below(&rng, n, n + 1);
            order[n] = order[at];
            order[at] = (struct frame){(uint32_t)i, (uint32_t)k};
        }
    }
    l->plan = (struct plan){.epoch = epoch, .order = order};
}

static uint64_t frame_rows(const struct latents *l, struct frame frame)
{
    return tstream_file_first(l->files[frame.file], frame.index + 1) -
           tstream_file_first(l->files[frame.file], frame.index);
}

// Bytes that a frame takes when decoded.
static uint64_t frame_size(const struct latents *l, uint64_t rows)
{
    return rows * (schema_record_size(l->schema) + sizeof(struct entry)) + FRAME_COST;
}

static uint64_t block_size_max(const struct latents *l)
{
    return l->cached ? l->size : l->options.memory / 2;
}

// Where the planned block ends in the order of frames, and how many records it
// has.
static size_t plan_block_end(const struct latents *l, uint64_t *records)
{
    size_t end = l->plan.next;
    uint64_t size = 0;
    for (*records = 0; end < l->n_frames; end++) {
        uint64_t rows = frame_rows(l, l->plan.order[end]);
        size += frame_size(l, rows);
        if (end > l->plan.next && size > block_size_max(l))
            break;
        *records += rows;
    }
    return end;
}

static void plan_advance(struct latents *l, size_t end)
{
    l->plan.next = end;
    l->plan.block++;
    if (l->plan.order && end == l->n_frames)
        plan_epoch(l, l->plan.epoch + 1);
}

struct frame_job {
    const struct tstream_file *file;
    size_t index;
    uint64_t file_first;
    struct batch *batch; // NULL with an error
    struct error error;
};

static void read_frame(void *arg)
{
    struct frame_job *job = arg;
    if (tstream_file_read(job->file, job->index, &job->batch) < 0) {
        job->batch = NULL;
        error_save(&job->error);
    }
}

static bool told_to_stop(struct latents *l)
{
    pthread_mutex_lock(&l->lock);
    bool stop = l->stop;
    pthread_mutex_unlock(&l->lock);
    return stop;
}

// The planned block's frames. -1 with an error; what was loaded is in the block
// in any case.
static int load_frames(struct latents *l, struct block *block, size_t end)
{
    size_t n = end - l->plan.next, started = 0;
    struct frame_job *jobs = mem_new(n, sizeof(*jobs));
    if (!jobs)
        return -1;
    for (; started < n && !told_to_stop(l); started++) {
        struct frame frame = l->plan.order[l->plan.next + started];
        jobs[started] = (struct frame_job){
            .file = l->files[frame.file],
            .index = frame.index,
            .file_first = l->file_first[frame.file],
        };
        if (pool_full(l->pool))
            pool_collect(l->pool, POOL_WAIT);
        pool_submit(l->pool, read_frame, &jobs[started]);
    }
    while (pool_collect(l->pool, POOL_WAIT))
        ;
    int rc = 0;
    for (size_t i = 0; i < started; i++) {
        struct batch *batch = jobs[i].batch;
        if (!batch)
            rc = error_restore(&jobs[i].error);
        else if (add_frame(block, batch, jobs[i].file_first + batch->first))
            rc = -1;
    }
    free(jobs);
    return rc;
}

static int load_from_pipe(struct latents *l, struct block *block)
{
    struct batch *batch;
    for (uint64_t size = 0; size < block_size_max(l) && !told_to_stop(l);) {
        int rc = tstream_read(l->pipe, &batch);
        if (rc <= 0)
            return rc;
        size += frame_size(l, batch->rows);
        if (add_frame(block, batch, batch->first))
            return -1;
    }
    return 0;
}

// NULL at the end of a pipe, or with an error and *failed set.
static struct block *load_block(struct latents *l, bool *failed)
{
    struct block *block = mem_new(1, sizeof(*block));
    uint64_t records;
    size_t end = plan_block_end(l, &records);
    *failed = !block || (l->pipe ? load_from_pipe(l, block) : load_frames(l, block, end)) ||
              (block->n_entries && order_block(l, block, l->plan.epoch, l->plan.block));
    if (*failed || block->n_entries == 0) {
        free_block(block);
        return NULL;
    }
    plan_advance(l, end);
    return block;
}

static void *load(void *arg)
{
    struct latents *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->over) {
        while (l->ready && !l->stop)
            pthread_cond_wait(&l->changed, &l->lock);
        if (l->stop)
            break;
        pthread_mutex_unlock(&l->lock);
        bool failed;
        struct block *block = load_block(l, &failed);
        if (failed)
            error_save(&l->error);
        pthread_mutex_lock(&l->lock);
        l->ready = block;
        l->failed = failed;
        l->over = !block || l->cached;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static int start_loader(struct latents *l)
{
    l->stop = l->over = l->failed = false;
    int rc = pthread_create(&l->loader, NULL, load, l);
    if (rc)
        return error_set(STATUS_INTERNAL, "cannot start a thread: %s", strerror(rc));
    l->loading = true;
    return 0;
}

static void stop_loader(struct latents *l)
{
    if (!l->loading)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->loader, NULL);
    l->loading = false;
    free_block(l->ready);
    l->ready = NULL;
}

// 1, or 0 at the end of a pipe, or -1 with an error.
static int next_block(struct latents *l)
{
    if (l->block && l->cached)
        return order_block(l, l->block, l->block->epoch + 1, 0) ? -1 : 1;
    free_block(l->block);
    l->block = NULL;
    if (!l->loading && start_loader(l))
        return -1;
    pthread_mutex_lock(&l->lock);
    while (!l->ready && !l->over)
        pthread_cond_wait(&l->changed, &l->lock);
    l->block = l->ready;
    l->ready = NULL;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (!l->block)
        return l->failed ? error_restore(&l->error) : 0;
    l->block->next = l->skip;
    l->skip = 0;
    return 1;
}

int latents_seek(struct latents *l, uint64_t position)
{
    if (position == l->position)
        return 0;
    if (l->pipe)
        return error_set(STATUS_DATA,
                         "%s: cannot go to record %" PRIu64 " of a pipe; give the data as a file",
                         tstream_name(l->pipe), position);
    uint64_t epoch = position / l->shape.records, left = position % l->shape.records, records;
    l->position = position;
    if (l->block && l->cached) {
        if (order_block(l, l->block, epoch, 0))
            return -1;
        l->block->next = left;
        return 0;
    }
    stop_loader(l);
    free_block(l->block);
    l->block = NULL;
    plan_epoch(l, epoch);
    for (size_t end; end = plan_block_end(l, &records), left >= records; left -= records)
        plan_advance(l, end);
    l->skip = left;
    return 0;
}

static int read_record(const struct latents *l, struct entry entry, float *mean, float *std,
                       int64_t *label)
{
    const struct loaded_frame *frame = &l->block->frames[entry.frame];
    struct rng rng = {l->options.seed, RNG_FLIP, (uint32_t)l->block->epoch,
                      frame->first + entry.row};
    bool flip = l->shape.flips && rng_u32(&rng, 0) & 1;
    const int fields[2] = {flip ? l->fields.mean_flip : l->fields.mean,
                           flip ? l->fields.std_flip : l->fields.std};
    float *const to[2] = {mean, std};
    for (size_t i = 0; i < (l->shape.spread ? 2 : 1); i++) {
        const struct field *field = &l->schema->fields[fields[i]];
        const uint8_t *from = frame->batch->data[fields[i]] + entry.row * field->size;
        if (floats_read(to[i], from, field->dtype, field->count))
            return -1;
    }
    *label = -1;
    if (l->label >= 0)
        memcpy(label, frame->batch->data[l->label] + entry.row * sizeof(*label), sizeof(*label));
    return 0;
}

// Sees to it that the block has a record left: 1, or 0 at the end of a pipe, or
// -1 with an error.
static int need_record(struct latents *l)
{
    int rc = 1;
    while (rc > 0 && (!l->block || l->block->next == l->block->n_entries))
        rc = next_block(l);
    return rc;
}

int latents_skip(struct latents *l, uint64_t n)
{
    while (n) {
        int rc = need_record(l);
        if (rc <= 0)
            return rc;
        uint64_t left = l->block->n_entries - l->block->next, step = n < left ? n : left;
        l->block->next += step;
        l->position += step;
        n -= step;
    }
    return 0;
}

long latents_read(struct latents *l, size_t n, float *mean, float *std, int64_t *labels)
{
    for (size_t i = 0; i < n; i++, l->position++) {
        int rc = need_record(l);
        if (rc <= 0)
            return rc ? -1 : (long)i;
        struct entry entry = l->block->entries[l->block->next++];
        size_t at = i * l->fields.count;
        if (read_record(l, entry, mean + at, std ? std + at : NULL, &labels[i]))
            return -1;
    }
    return (long)n;
}

static uint64_t hash_data(const struct latents *l)
{
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < l->schema->n_fields; i++) {
        const struct field *field = &l->schema->fields[i];
        hash = hash_bytes(hash, field->name, strlen(field->name) + 1);
        hash = hash_number(hash, field->dtype);
        for (size_t k = 0; k < field->rank; k++)
            hash = hash_number(hash, field->shape[k]);
    }
    for (size_t i = 0; i < l->n_files; i++)
        hash = hash_number(hash, l->hashes[i]);
    return hash;
}

static int open_file(struct latents *l, const char *path)
{
    struct tstream_file *file = tstream_file_open(path);
    if (!file)
        return -1;
    uint32_t number = (uint32_t)l->n_files;
    l->files[l->n_files++] = file;
    l->file_first[number] = l->shape.records;
    l->shape.records += tstream_file_records(file);
    l->schema = tstream_file_schema(l->files[0]);
    if (schema_check_same(l->schema, tstream_file_schema(file)))
        return error_prefix("%s", tstream_file_name(file));
    size_t frames = tstream_file_frames(file);
    for (uint32_t i = 0; i < frames; i++) {
        uint64_t rows = frame_rows(l, (struct frame){number, i});
        l->size += frame_size(l, rows);
        if (rows > l->rows_max)
            l->rows_max = rows;
    }
    l->n_frames += frames;
    return 0;
}

static int check_memory(const struct latents *l)
{
    uint64_t need = latents_memory(l), available = mem_available();
    if (need <= available)
        return 0;
    return error_set(STATUS_USAGE,
                     "%s: to keep all latents in memory takes %.1f GiB, and %.1f "
                     "are available",
                     tstream_file_name(l->files[0]), ldexp((double)need, -30),
                     ldexp((double)available, -30));
}

static int open_files(struct latents *l, char **paths, size_t n)
{
    l->files = mem_new(n, sizeof(*l->files));
    l->file_first = mem_new(n, sizeof(*l->file_first));
    l->hashes = mem_new(n, sizeof(*l->hashes));
    if (!l->files || !l->file_first || !l->hashes)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (open_file(l, paths[i]))
            return -1;
    if (l->shape.records == 0)
        return error_set(STATUS_DATA, "%s: expected latents, found no records",
                         tstream_file_name(l->files[0]));
    l->cached = l->options.cache || l->size <= l->options.memory;
    if (shards_check(l->files, n, l->options.partial) || (l->options.cache && check_memory(l)) ||
        shards_hash(l->files, n, l->options.threads, l->hashes))
        return -1;
    l->fingerprint = hash_data(l);
    l->plan.order = mem_new(l->n_frames, sizeof(*l->plan.order));
    l->pool = pool_new(l->options.threads, 2 * l->options.threads);
    if (!l->plan.order || !l->pool)
        return -1;
    plan_epoch(l, 0);
    return 0;
}

// Copies a pipe into a file without a name.
static int spool(struct latents *l, const char *path)
{
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    const char *name = path ? path : "standard input";
    if (fd < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s", name);
    if (!path && fd_refuse_terminal(fd, name) < 0)
        return -1;
    const size_t size = (size_t)1 << 20;
    uint8_t *buffer = mem_new(size, 1);
    l->spool = scratch_open(NULL);
    int rc = buffer && l->spool >= 0 ? 0 : -1;
    for (size_t got = size; rc == 0 && got == size;) {
        if (fd_read_full(fd, buffer, size, &got))
            rc = error_set_errno(STATUS_NO_INPUT, "%s", name);
        else
            rc = scratch_write(l->spool, buffer, got);
    }
    free(buffer);
    if (path)
        close(fd);
    return rc;
}

static int open_inputs(struct latents *l, char **paths)
{
    size_t n = 0;
    while (paths && paths[n])
        n++;
    const char *only = n && strcmp(paths[0], "-") != 0 ? paths[0] : NULL;
    struct stat st;
    bool pipe = n <= 1 && (only ? stat(only, &st) : fstat(STDIN_FILENO, &st)) == 0 &&
                !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
    char spooled[32], standard_input[] = "/dev/stdin";
    if (!pipe && n)
        return open_files(l, paths, n);
    if (!pipe)
        return open_files(l, (char *[]){standard_input}, 1);
    if (l->options.one_pass && !l->options.cache) {
        l->pipe = tstream_open(only, l->options.threads);
        if (!l->pipe)
            return -1;
        l->schema = tstream_schema(l->pipe);
        return 0;
    }
    if (spool(l, only))
        return -1;
    snprintf(spooled, sizeof(spooled), "/proc/self/fd/%d", l->spool);
    if (open_files(l, (char *[]){spooled}, 1))
        return error_prefix("the temporary copy of %s", only ? only : "standard input");
    return 0;
}

static int find_tensors(struct latents *l)
{
    const char *name = l->pipe ? tstream_name(l->pipe) : tstream_file_name(l->files[0]);
    l->label = schema_find(l->schema, "label");
    if (latent_fields_find(l->schema, &l->fields) ||
        (l->label >= 0 && schema_expect(l->schema, "label", DTYPE_I64, 0) < 0))
        return error_prefix("%s", name);
    l->shape.channels = l->fields.channels;
    l->shape.height = l->fields.height;
    l->shape.width = l->fields.width;
    l->shape.spread = l->fields.std >= 0;
    l->shape.flips = l->fields.mean_flip >= 0;
    return 0;
}

struct latents *latents_open(char **paths, const struct latents_options *options)
{
    struct latents *l = mem_new(1, sizeof(*l));
    if (!l)
        return NULL;
    l->options = *options;
    l->spool = -1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (open_inputs(l, paths) || find_tensors(l)) {
        latents_close(l);
        return NULL;
    }
    return l;
}

void latents_close(struct latents *l)
{
    if (!l)
        return;
    stop_loader(l);
    free_block(l->block);
    pool_free(l->pool, NULL);
    for (size_t i = 0; i < l->n_files; i++)
        tstream_file_close(l->files[i]);
    tstream_close(l->pipe);
    if (l->spool >= 0)
        close(l->spool);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l->files);
    free(l->file_first);
    free(l->hashes);
    free(l->plan.order);
    free(l);
}

const struct latents_shape *latents_shape(const struct latents *l)
{
    return &l->shape;
}

const struct schema *latents_schema(const struct latents *l)
{
    return l->schema;
}

uint64_t latents_memory(const struct latents *l)
{
    uint64_t rows = l->pipe ? schema_rows_aim(l->schema) : l->rows_max;
    uint64_t largest = frame_size(l, rows), half = block_size_max(l);
    uint64_t compressed = largest < COMPRESSED_MAX ? largest : COMPRESSED_MAX;
    uint64_t blocks = l->cached ? l->size : 2 * (half > largest ? half : largest);
    if (l->pipe) // one more than fits in each, and those that its reader holds
        blocks += 2 * largest + 4 * l->options.threads * largest;
    return blocks + l->options.threads * (compressed + DECODER_COST);
}

json_t *latents_describe(const struct latents *l)
{
    return shards_describe(l->files, l->hashes, l->n_files);
}

int latents_compare(const struct latents *l, const char *json)
{
    return shards_compare(l->files, l->hashes, l->n_files, json);
}

uint64_t latents_fingerprint(const struct latents *l)
{
    return l->fingerprint;
}

uint64_t latents_position(const struct latents *l)
{
    return l->position;
}
