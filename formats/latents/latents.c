// Reads latents for training: opens files or a pipe, identifies them, and converts the records that
// blocks.c loads. SPDX-License-Identifier: MIT
#include "formats/latents/latents.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/latents/blocks.h"
#include "formats/latents/latent-fields.h"
#include "formats/latents/shards.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/base/scratch.h"

#define FILES_OPEN_MAX 256 // a process may have 1024 descriptors; of more files none is kept open

struct latents {
    struct latents_options options;
    struct latents_shape shape;
    struct latent_fields fields;
    int label; // index of the tensor or -1
    struct block_source source;
    int spool;            // descriptor of a pipe's temporary copy, or -1
    uint64_t *hashes;     // (n_files)
    uint64_t fingerprint; // of the schema and all files
    struct block_loader *loader;
    struct record_block *block; // in use, or NULL
    uint64_t position;
};

int latents_seek(struct latents *l, uint64_t position)
{
    if (position == l->position)
        return 0;
    if (l->source.pipe)
        return error_set(STATUS_DATA,
                         "%s: cannot go to record %" PRIu64 " of a pipe; give the data as a file",
                         tstream_name(l->source.pipe), position);
    l->position = position;
    return block_loader_seek(l->loader, position / l->shape.records, position % l->shape.records,
                             &l->block);
}

static int read_record(const struct latents *l, struct block_record record, float *mean, float *std,
                       int64_t *label)
{
    const struct block_frame *frame = &l->block->frames[record.frame];
    struct rng rng = {l->options.seed, RNG_FLIP, (uint32_t)l->block->epoch,
                      frame->first + record.row};
    bool flip = l->shape.flips && rng_u32(&rng, 0) & 1;
    const int fields[2] = {flip ? l->fields.mean_flip : l->fields.mean,
                           flip ? l->fields.std_flip : l->fields.std};
    float *const to[2] = {mean, std};
    for (size_t i = 0; i < (l->shape.spread ? 2 : 1); i++) {
        const struct field *field = &l->source.schema->fields[fields[i]];
        const uint8_t *from = frame->batch->data[fields[i]] + record.row * field->size;
        if (floats_read(to[i], from, field->dtype, field->count) < 0)
            return -1;
    }
    *label = -1;
    if (l->label >= 0)
        memcpy(label, frame->batch->data[l->label] + record.row * sizeof *label, sizeof *label);
    return 0;
}

// Goes to the next block if no record of this one is left: 1, or 0 at the end of a pipe, or -1 with
// an error.
static int need_record(struct latents *l)
{
    int rc = 1;
    while (rc > 0 && (!l->block || l->block->next == l->block->n_records))
        rc = block_loader_next(l->loader, &l->block);
    return rc;
}

int latents_skip(struct latents *l, uint64_t n)
{
    while (n) {
        int rc = need_record(l);
        if (rc <= 0)
            return rc;
        uint64_t left = l->block->n_records - l->block->next, step = n < left ? n : left;
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
            return rc < 0 ? -1 : (long)i;
        struct block_record record = l->block->order[l->block->next++];
        size_t at = i * l->fields.count;
        if (read_record(l, record, mean + at, std ? std + at : NULL, &labels[i]) < 0)
            return -1;
    }
    return (long)n;
}

static uint64_t hash_data(const struct latents *l)
{
    const struct schema *schema = l->source.schema;
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct field *field = &schema->fields[i];
        hash = hash_bytes(hash, field->name, strlen(field->name) + 1);
        hash = hash_number(hash, field->dtype);
        for (size_t k = 0; k < field->rank; k++)
            hash = hash_number(hash, field->shape[k]);
    }
    for (size_t i = 0; i < l->source.n_files; i++)
        hash = hash_number(hash, l->hashes[i]);
    return hash;
}

static int add_file(struct latents *l, const char *path, bool rests)
{
    struct tstream_file *file = tstream_file_open(path);
    if (!file)
        return -1;
    struct block_source *source = &l->source;
    if (rests)
        tstream_file_rest(file);
    source->files[source->n_files] = file;
    source->file_first[source->n_files++] = l->shape.records;
    l->shape.records += tstream_file_records(file);
    source->schema = tstream_file_schema(source->files[0]);
    if (schema_check_same(source->schema, tstream_file_schema(file)) < 0)
        return error_prefix("%s", tstream_file_name(file));
    size_t frames = tstream_file_frames(file);
    for (size_t i = 0; i < frames; i++) {
        uint64_t records = tstream_file_first(file, i + 1) - tstream_file_first(file, i);
        source->size += block_frame_size(source->schema, records);
        if (records > source->frame_records_max)
            source->frame_records_max = records;
    }
    source->n_frames += frames;
    return 0;
}

static int check_memory(const struct latents *l)
{
    uint64_t need = latents_memory(l), available = mem_available();
    if (need <= available)
        return 0;
    return error_set(STATUS_USAGE,
                     "%s: caching all latents takes %.1f GiB of memory, but only %.1f GiB are "
                     "available",
                     tstream_file_name(l->source.files[0]), ldexp((double)need, -30),
                     ldexp((double)available, -30));
}

static int open_files(struct latents *l, char **paths, size_t n)
{
    struct block_source *source = &l->source;
    source->files = mem_new(n, sizeof *source->files);
    source->file_first = mem_new(n, sizeof *source->file_first);
    l->hashes = mem_new(n, sizeof *l->hashes);
    if (!source->files || !source->file_first || !l->hashes)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (add_file(l, paths[i], n > FILES_OPEN_MAX) < 0)
            return -1;
    if (l->shape.records == 0)
        return error_set(STATUS_DATA, "%s: expected latents, found no records",
                         tstream_file_name(source->files[0]));
    source->cached = l->options.cache || source->size <= l->options.memory;
    if (shards_check(source->files, n, l->options.partial) < 0 ||
        (l->options.cache && check_memory(l) < 0) ||
        shards_hash(source->files, n, l->options.threads, l->hashes) < 0)
        return -1;
    l->fingerprint = hash_data(l);
    return 0;
}

// Copies a pipe into an unnamed temporary file.
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
        if (fd_read_full(fd, buffer, size, &got) < 0)
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
        l->source.pipe = tstream_open(only, l->options.threads);
        if (!l->source.pipe)
            return -1;
        l->source.schema = tstream_schema(l->source.pipe);
        return 0;
    }
    if (spool(l, only) < 0)
        return -1;
    snprintf(spooled, sizeof spooled, "/proc/self/fd/%d", l->spool);
    if (open_files(l, (char *[]){spooled}, 1) < 0)
        return error_prefix("the temporary copy of %s", only ? only : "standard input");
    return 0;
}

static int find_tensors(struct latents *l)
{
    const struct schema *schema = l->source.schema;
    l->label = schema_find(schema, "label");
    if (latent_fields_find(schema, &l->fields) < 0 ||
        (l->label >= 0 && schema_expect(schema, "label", DTYPE_I64, 0) < 0))
        return error_prefix("%s", l->source.pipe ? tstream_name(l->source.pipe)
                                                 : tstream_file_name(l->source.files[0]));
    l->shape.channels = l->fields.channels;
    l->shape.height = l->fields.height;
    l->shape.width = l->fields.width;
    l->shape.spread = l->fields.std >= 0;
    l->shape.flips = l->fields.mean_flip >= 0;
    return 0;
}

struct latents *latents_open(char **paths, const struct latents_options *options)
{
    struct latents *l = mem_new(1, sizeof *l);
    if (!l)
        return NULL;
    l->options = *options;
    l->source.seed = options->seed;
    l->source.memory = options->memory;
    l->source.threads = options->threads;
    l->spool = -1;
    if (open_inputs(l, paths) < 0 || find_tensors(l) < 0 ||
        !(l->loader = block_loader_new(&l->source))) {
        latents_close(l);
        return NULL;
    }
    return l;
}

void latents_close(struct latents *l)
{
    if (!l)
        return;
    block_loader_free(l->loader);
    record_block_free(l->block);
    for (size_t i = 0; i < l->source.n_files; i++)
        tstream_file_close(l->source.files[i]);
    tstream_close(l->source.pipe);
    if (l->spool >= 0)
        close(l->spool);
    free(l->source.files);
    free(l->source.file_first);
    free(l->hashes);
    free(l);
}

const struct latents_shape *latents_shape(const struct latents *l)
{
    return &l->shape;
}

const struct schema *latents_schema(const struct latents *l)
{
    return l->source.schema;
}

uint64_t latents_memory(const struct latents *l)
{
    return block_source_memory(&l->source);
}

json_t *latents_describe(const struct latents *l)
{
    return shards_describe(l->source.files, l->hashes, l->source.n_files);
}

int latents_compare(const struct latents *l, const char *json)
{
    return shards_compare(l->source.files, l->hashes, l->source.n_files, json);
}

uint64_t latents_fingerprint(const struct latents *l)
{
    return l->fingerprint;
}

uint64_t latents_position(const struct latents *l)
{
    return l->position;
}
