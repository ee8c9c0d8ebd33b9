// Writes streams: workers compress the frames, and a thread of its own writes each in its turn as
// soon as it is ready. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"

#define LEVEL_MAX 19 // above it, windows may exceed TSTREAM_WINDOW_MAX

struct tstream_writer {
    struct output *output;
    struct schema *schema;
    struct pool *pool;
    struct budget budget;
    struct contexts contexts;
    pthread_t drain_thread;
    bool drain_started;
    atomic_bool failed; // `error` is set
    struct error error;
    uint64_t records;
    int64_t *rows; // of every data frame
    size_t n_rows;
    struct seek_entry *entries; // of every frame written
    size_t n_entries;
};

struct compress_job {
    struct tstream_writer *writer;
    struct batch *batch;
    const uint8_t *document; // within the batch
    size_t size;
    uint8_t *frame; // compressed; NULL for a large one, which the drain thread compresses
    size_t frame_size;
    bool failed;
    struct error error;
};

static void compress_job_free(struct compress_job *job)
{
    batch_free(job->batch);
    free(job->frame);
    free(job);
}

static int compress_document(struct tstream_writer *writer, const uint8_t *document, size_t size,
                             uint8_t **frame, size_t *frame_size)
{
    size_t bound = ZSTD_compressBound(size);
    ZSTD_CCtx *context = contexts_acquire(&writer->contexts);
    *frame = malloc(bound);
    if (!context || !*frame) {
        contexts_release(&writer->contexts, context);
        return error_set(STATUS_INTERNAL, "out of memory: %zu bytes for a compressed frame", bound);
    }
    size_t n = ZSTD_compress2(context, *frame, bound, document, size);
    contexts_release(&writer->contexts, context);
    if (ZSTD_isError(n))
        return error_set(STATUS_INTERNAL, "zstd: %s", ZSTD_getErrorName(n));
    *frame_size = n;
    return 0;
}

static int add_seek_entry(struct tstream_writer *writer, size_t size, size_t content)
{
    if (mem_grow(&writer->entries, writer->n_entries, 1, sizeof *writer->entries) < 0)
        return -1;
    writer->entries[writer->n_entries++] = (struct seek_entry){(uint32_t)size, (uint32_t)content};
    return 0;
}

// Compresses a document and writes it piece by piece.
static int write_large(struct tstream_writer *writer, const uint8_t *document, size_t size)
{
    ZSTD_CCtx *context = contexts_acquire(&writer->contexts);
    size_t room = ZSTD_CStreamOutSize(), total = 0, left = 1;
    uint8_t *piece = mem_new(room, 1);
    ZSTD_inBuffer in = {document, size, 0};
    int rc = context && piece ? 0 : -1;
    if (rc == 0)
        ZSTD_CCtx_setPledgedSrcSize(context, size);
    while (rc == 0 && left) {
        ZSTD_outBuffer out = {piece, room, 0};
        left = ZSTD_compressStream2(context, &out, &in, ZSTD_e_end);
        rc = ZSTD_isError(left) ? error_set(STATUS_INTERNAL, "zstd: %s", ZSTD_getErrorName(left))
                                : output_write(writer->output, piece, out.pos);
        total += out.pos;
    }
    contexts_release(&writer->contexts, context);
    free(piece);
    return rc < 0 ? -1 : add_seek_entry(writer, total, size);
}

// Compresses and writes a document on the calling thread.
static int write_now(struct tstream_writer *writer, const uint8_t *document, size_t size)
{
    uint8_t *frame = NULL;
    size_t frame_size;
    if (size > TSTREAM_LARGE)
        return write_large(writer, document, size);
    int rc = compress_document(writer, document, size, &frame, &frame_size);
    if (rc == 0)
        rc = output_write(writer->output, frame, frame_size);
    free(frame);
    return rc < 0 ? -1 : add_seek_entry(writer, frame_size, size);
}

static void compress_job_run(void *arg)
{
    struct compress_job *job = arg;
    if (job->size > TSTREAM_LARGE)
        return;
    job->failed =
        compress_document(job->writer, job->document, job->size, &job->frame, &job->frame_size) < 0;
    if (job->failed)
        error_save(&job->error);
    batch_free(job->batch);
    job->batch = NULL;
}

static int write_compressed(struct tstream_writer *writer, const struct compress_job *job)
{
    if (job->failed)
        return error_restore(&job->error);
    if (!job->frame)
        return write_large(writer, job->document, job->size);
    if (output_write(writer->output, job->frame, job->frame_size) < 0)
        return -1;
    return add_seek_entry(writer, job->frame_size, job->size);
}

static void *drain(void *arg)
{
    struct tstream_writer *writer = arg;
    struct compress_job *job;
    while ((job = pool_collect(writer->pool, POOL_WAIT_UNTIL_END))) {
        if (!writer->failed && write_compressed(writer, job) < 0) {
            error_save(&writer->error);
            writer->failed = true;
        }
        size_t memory = frame_memory(job->size);
        compress_job_free(job);
        budget_release(&writer->budget, memory);
    }
    return NULL;
}

static void stop_drain(struct tstream_writer *writer)
{
    if (writer->pool)
        pool_close(writer->pool);
    if (writer->drain_started)
        pthread_join(writer->drain_thread, NULL);
    writer->drain_started = false;
}

static void writer_free(struct tstream_writer *writer)
{
    stop_drain(writer);
    pool_free(writer->pool, NULL);
    contexts_free(&writer->contexts);
    budget_free(&writer->budget);
    schema_free(writer->schema);
    free(writer->rows);
    free(writer->entries);
    free(writer);
}

static int write_begin(struct tstream_writer *writer)
{
    uint8_t *header;
    size_t size;
    const struct schema *schema = writer->schema;
    if (!schema->n_fields)
        return error_set(STATUS_INTERNAL, "a stream needs a tensor");
    if (schema_build_header(schema, 0, schema->metadata, NO_ROWS_TENSOR, &header, &size) < 0)
        return -1;
    int rc = write_now(writer, header, size);
    free(header);
    return rc;
}

static int writer_start(struct tstream_writer *writer, size_t threads)
{
    if (!(writer->pool = pool_new(threads, 2 * threads)))
        return -1;
    int rc = pthread_create(&writer->drain_thread, NULL, drain, writer);
    if (rc)
        return error_set(STATUS_INTERNAL, "cannot start a thread: %s", strerror(rc));
    writer->drain_started = true;
    return 0;
}

struct tstream_writer *tstream_create(struct output *output, const struct schema *schema,
                                      size_t threads, int level)
{
    struct tstream_writer *writer = mem_new(1, sizeof *writer);
    if (!writer) {
        output_discard(output);
        return NULL;
    }
    threads = threads ? threads : 1;
    writer->output = output;
    budget_init(&writer->budget, frames_memory(threads));
    contexts_init_compress(&writer->contexts, level < LEVEL_MAX ? level : LEVEL_MAX);
    writer->schema = schema_copy(schema);
    if (!writer->schema || write_begin(writer) < 0 || writer_start(writer, threads) < 0) {
        writer_free(writer);
        output_discard(output);
        return NULL;
    }
    return writer;
}

static int add_rows(struct tstream_writer *writer, size_t rows)
{
    if (writer->n_rows == TSTREAM_FRAMES_MAX)
        return error_set(STATUS_INTERNAL, "a segment holds at most %zu data frames",
                         TSTREAM_FRAMES_MAX);
    if (mem_grow(&writer->rows, writer->n_rows, 1, sizeof *writer->rows) < 0)
        return -1;
    writer->rows[writer->n_rows++] = (int64_t)rows;
    return 0;
}

// Makes room for a header in front of the batch's data. A batch that was read from a stream with a
// shorter header may lack it, and is then copied.
static int reserve_header(const struct schema *schema, struct batch **batch, size_t header_size)
{
    if ((size_t)((*batch)->data[0] - (*batch)->document) >= header_size)
        return 0;
    struct batch *copy = batch_new(schema, (*batch)->rows);
    if (!copy)
        return -1;
    for (size_t i = 0; i < schema->n_fields; i++)
        memcpy(copy->data[i], (*batch)->data[i], copy->rows * schema->fields[i].size);
    batch_free(*batch);
    *batch = copy;
    return 0;
}

// Writes the header in front of the data, so that the two make a document without a copy.
static int complete_document(struct tstream_writer *writer, struct compress_job *job)
{
    uint8_t *header = NULL;
    size_t header_size;
    json_t *metadata = json_object();
    char first[24];
    snprintf(first, sizeof first, "%" PRIu64, writer->records);
    json_object_set_new(metadata, "first", json_string(first));
    int rc = schema_build_header(writer->schema, job->batch->rows, metadata, NO_ROWS_TENSOR,
                                 &header, &header_size);
    json_decref(metadata);
    if (rc < 0 || reserve_header(writer->schema, &job->batch, header_size) < 0) {
        free(header);
        return -1;
    }
    job->document = job->batch->data[0] - header_size;
    job->size = header_size + job->batch->rows * schema_record_size(writer->schema);
    memcpy(job->batch->data[0] - header_size, header, header_size);
    free(header);
    return 0;
}

int tstream_write(struct tstream_writer *writer, struct batch *batch)
{
    size_t rows = batch->rows;
    if (rows == 0) {
        batch_free(batch);
        return 0;
    }
    batch->first = writer->records;
    struct compress_job *job = mem_new(1, sizeof *job);
    if (!job) {
        batch_free(batch);
        return -1;
    }
    *job = (struct compress_job){.writer = writer, .batch = batch};
    if (complete_document(writer, job) < 0 || add_rows(writer, rows) < 0) {
        compress_job_free(job);
        return -1;
    }
    writer->records += rows;
    bool large = job->size > TSTREAM_LARGE;
    budget_acquire(&writer->budget, frame_memory(job->size));
    if (pool_submit(writer->pool, compress_job_run, job) < 0) {
        compress_job_free(job);
        return -1;
    }
    if (large)
        budget_wait_empty(&writer->budget);
    return writer->failed ? error_restore(&writer->error) : 0;
}

static int write_end(struct tstream_writer *writer)
{
    uint8_t *header, *document;
    size_t size, rows_size = 8 * writer->n_rows;
    char records[24], frames[24];
    snprintf(records, sizeof records, "%" PRIu64, writer->records);
    snprintf(frames, sizeof frames, "%zu", writer->n_rows);
    json_t *metadata = json_pack("{s:s, s:s}", "records", records, "frames", frames);
    int rc =
        schema_build_header(writer->schema, 0, metadata, (int64_t)writer->n_rows, &header, &size);
    json_decref(metadata);
    if (rc < 0)
        return -1;
    document = mem_resize(header, size + rows_size, 1);
    if (!document) {
        free(header);
        return -1;
    }
    for (size_t i = 0; i < writer->n_rows; i++) {
        put_le(document + size + 8 * i, 4, (uint32_t)writer->rows[i]);
        put_le(document + size + 8 * i + 4, 4, 0); // no frame holds 2^32 records
    }
    rc = write_now(writer, document, size + rows_size);
    free(document);
    return rc;
}

static int write_table(struct tstream_writer *writer)
{
    uint8_t *table;
    size_t size;
    if (seek_table_build(writer->entries, writer->n_entries, &table, &size) < 0)
        return -1;
    int rc = output_write(writer->output, table, size);
    free(table);
    return rc;
}

int tstream_finish(struct tstream_writer *writer)
{
    struct output *output = writer->output;
    stop_drain(writer);
    int rc = writer->failed ? error_restore(&writer->error) : write_end(writer);
    if (rc == 0)
        rc = write_table(writer);
    writer_free(writer);
    if (rc == 0)
        return output_commit(output);
    output_discard(output);
    return -1;
}

void tstream_abandon(struct tstream_writer *writer)
{
    if (!writer)
        return;
    struct output *output = writer->output;
    writer_free(writer);
    output_discard(output);
}
