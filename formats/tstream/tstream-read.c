// Reads streams in order: one thread reads frames from the input, workers decode them ahead, and
// the user's thread checks their sequence. SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"

enum segment_state { BETWEEN_SEGMENTS, IN_SEGMENT, AFTER_END };

// What was read of the present segment, to be compared with its end frame and seek table.
struct segment {
    enum segment_state state;
    uint64_t first;   // number of its first record within the stream
    uint64_t records; // read so far
    int64_t *rows;    // of each data frame
    size_t n_rows;
    struct seek_entry *entries; // of each frame
    size_t n_entries;
};

struct tstream_reader {
    char *name;
    int fd; // to close, or -1
    int wake[2];
    struct byte_input input;
    struct schema *schema;
    struct pool *pool;
    struct budget budget;
    struct contexts contexts;
    pthread_t thread;
    bool started;
    bool input_failed; // set by the thread before it closes the pool
    struct error input_error;
    size_t batch_memory; // acquired for the batch that the user has
    struct segment segment;
    struct frame_place place; // of the batch handed out last
    struct tstream_totals totals;
    bool failed;
    struct error error;
};

struct decode_job {
    struct tstream_reader *reader;
    struct frame frame;
    size_t memory; // acquired for the frame
    bool failed;
    struct error error;
};

static void decode_job_free(void *arg)
{
    struct decode_job *job = arg;
    frame_free(&job->frame);
    free(job);
}

static void decode_job_run(void *arg)
{
    struct decode_job *job = arg;
    job->failed = frame_decode(&job->frame, &job->reader->contexts) < 0;
    if (job->failed) {
        error_prefix("%s: byte %" PRIu64, job->reader->name, job->frame.offset);
        error_save(&job->error);
    }
}

// Reads the next frame: 1, or 0 at the end of the input, or -1 with an error.
static int read_job_frame(struct tstream_reader *reader, struct decode_job *job)
{
    job->reader = reader;
    int rc = frame_read_header(&reader->input, &job->frame);
    if (rc <= 0)
        return rc;
    job->memory = frame_memory(job->frame.content);
    if (budget_acquire(&reader->budget, job->memory) < 0)
        return error_set(STATUS_INTERNAL, "%s: reading was stopped", reader->name);
    return frame_read_body(&reader->input, &job->frame, &reader->contexts) < 0 ? -1 : 1;
}

static void *read_ahead(void *arg)
{
    struct tstream_reader *reader = arg;
    int rc = 1;
    while (rc > 0) {
        struct decode_job *job = mem_new(1, sizeof *job);
        rc = job ? read_job_frame(reader, job) : -1;
        if (rc > 0 && pool_submit(reader->pool, decode_job_run, job) < 0)
            rc = -1;
        if (rc < 0) {
            error_save(&reader->input_error);
            reader->input_failed = true;
        }
        if (rc <= 0 && job)
            decode_job_free(job);
    }
    pool_close(reader->pool);
    return NULL;
}

static int segment_add(struct segment *segment, const struct frame *frame)
{
    if (segment->n_entries == TSTREAM_FRAMES_MAX + 2)
        return error_set(STATUS_DATA, "a segment of more than %zu frames", TSTREAM_FRAMES_MAX + 2);
    if (mem_grow(&segment->entries, segment->n_entries, 1, sizeof *segment->entries) < 0 ||
        mem_grow(&segment->rows, segment->n_entries, 1, sizeof *segment->rows) < 0)
        return -1;
    segment->entries[segment->n_entries++] =
        (struct seek_entry){(uint32_t)frame->size, (uint32_t)frame->content};
    return 0;
}

static int take_begin(struct tstream_reader *reader, const struct frame *frame)
{
    struct schema *schema = frame_schema(frame);
    if (!schema)
        return -1;
    if (!reader->schema) {
        reader->schema = schema;
    } else {
        int rc = schema_check_same(reader->schema, schema);
        schema_free(schema);
        if (rc < 0)
            return error_prefix("the segment differs from the first");
    }
    struct segment *segment = &reader->segment;
    segment->state = IN_SEGMENT;
    segment->first += segment->records;
    segment->records = 0;
    segment->n_rows = segment->n_entries = 0;
    return segment_add(segment, frame);
}

static int take_data(struct tstream_reader *reader, struct frame *frame, struct batch **out)
{
    struct segment *segment = &reader->segment;
    if (segment_add(segment, frame) < 0)
        return -1;
    struct batch *batch = frame_batch(frame, reader->schema, segment->records);
    if (!batch)
        return -1;
    batch->first = segment->first + segment->records;
    reader->place = (struct frame_place){frame->offset, batch->first, segment->first,
                                         (uint32_t)frame->size, (uint32_t)frame->content};
    segment->rows[segment->n_rows++] = (int64_t)batch->rows;
    segment->records += batch->rows;
    reader->totals.records += batch->rows;
    reader->totals.frames++;
    *out = batch;
    return 0;
}

static int take_end(struct tstream_reader *reader, const struct frame *frame)
{
    struct segment *segment = &reader->segment;
    if (frame_check_end(frame, reader->schema, segment->rows, segment->n_rows) < 0)
        return -1;
    segment->state = AFTER_END;
    return segment_add(segment, frame);
}

static int take_table(struct tstream_reader *reader, const struct frame *frame)
{
    struct segment *segment = &reader->segment;
    if (seek_table_check(frame, segment->entries, segment->n_entries) < 0)
        return -1;
    segment->state = BETWEEN_SEGMENTS;
    reader->totals.segments++;
    return 0;
}

// Checks that the frame may come here; sets *batch if it is a data frame.
static int take_frame(struct tstream_reader *reader, struct frame *frame, struct batch **batch)
{
    static const char *const expected[] = {
        [BETWEEN_SEGMENTS] = "a begin frame",
        [IN_SEGMENT] = "a data frame or an end frame",
        [AFTER_END] = "a seek table",
    };
    enum segment_state state = reader->segment.state;
    enum frame_kind kind = frame_kind(frame);
    reader->totals.size += frame->size;
    reader->totals.content += frame->is_table ? 0 : frame->content;
    if (kind == FRAME_BEGIN && state == BETWEEN_SEGMENTS)
        return take_begin(reader, frame);
    if (kind == FRAME_DATA && state == IN_SEGMENT)
        return take_data(reader, frame, batch);
    if (kind == FRAME_END && state == IN_SEGMENT)
        return take_end(reader, frame);
    if (kind == FRAME_TABLE && state == AFTER_END)
        return take_table(reader, frame);
    return error_set(STATUS_DATA, "expected %s, found %s", expected[state], frame_kind_name(kind));
}

static int take_end_of_input(const struct tstream_reader *reader)
{
    static const char *const missing[] = {[IN_SEGMENT] = "cut short: there is no end frame",
                                          [AFTER_END] = "cut short: there is no seek table"};
    if (reader->input_failed)
        return error_restore(&reader->input_error);
    if (!reader->schema)
        return error_set(STATUS_DATA,
                         "%s: byte %" PRIu64 ": the stream is empty: it has no begin frame",
                         reader->name, reader->input.offset);
    if (reader->segment.state != BETWEEN_SEGMENTS)
        return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": %s", reader->name,
                         reader->input.offset, missing[reader->segment.state]);
    return 0;
}

// The next frame: 1, or 0 at the end of the input, or -1 with an error. *batch is NULL if the frame
// has no records.
static int next_frame(struct tstream_reader *reader, struct batch **batch)
{
    *batch = NULL;
    struct decode_job *job = pool_collect(reader->pool, POOL_WAIT_UNTIL_END);
    if (!job)
        return take_end_of_input(reader);
    int rc;
    if (job->failed)
        rc = error_restore(&job->error);
    else if ((rc = take_frame(reader, &job->frame, batch)) < 0)
        error_prefix("%s: byte %" PRIu64, reader->name, job->frame.offset);
    if (*batch)
        reader->batch_memory = job->memory;
    else
        budget_release(&reader->budget, job->memory);
    decode_job_free(job);
    return rc < 0 ? -1 : 1;
}

int tstream_read(struct tstream_reader *reader, struct batch **batch)
{
    *batch = NULL;
    if (reader->failed)
        return error_restore(&reader->error);
    budget_release(&reader->budget, reader->batch_memory);
    reader->batch_memory = 0;
    int rc;
    do
        rc = next_frame(reader, batch);
    while (rc > 0 && !*batch);
    if (rc < 0) {
        error_save(&reader->error);
        reader->failed = true;
    }
    return rc;
}

static int reader_start(struct tstream_reader *reader, size_t threads)
{
    if (pipe2(reader->wake, O_CLOEXEC) < 0) {
        reader->wake[0] = reader->wake[1] = -1;
        return error_set_errno(STATUS_INTERNAL, "pipe");
    }
    if (!(reader->pool = pool_new(threads, 2 * threads)))
        return -1;
    reader->input.wake = reader->wake[0];
    int rc = pthread_create(&reader->thread, NULL, read_ahead, reader);
    if (rc)
        return error_set(STATUS_INTERNAL, "cannot start a thread: %s", strerror(rc));
    reader->started = true;
    return 0;
}

struct tstream_reader *tstream_open_input(const struct byte_input *input, size_t threads)
{
    struct tstream_reader *reader = mem_new(1, sizeof *reader);
    if (!reader)
        return NULL;
    threads = threads ? threads : 1;
    reader->fd = reader->wake[0] = reader->wake[1] = -1;
    budget_init(&reader->budget, frames_memory(threads));
    contexts_init_decompress(&reader->contexts, CONTEXTS_MAX);
    reader->name = mem_strdup(input->name);
    if (!reader->name || byte_input_init(&reader->input, reader->name, input->fd) < 0) {
        tstream_close(reader);
        return NULL;
    }
    reader->input.random = input->random;
    reader->input.offset = input->offset;
    reader->input.end = input->end;
    struct batch *none; // the first frame has no records, or it is an error
    if (reader_start(reader, threads) < 0 || next_frame(reader, &none) < 0) {
        tstream_close(reader);
        return NULL;
    }
    return reader;
}

struct tstream_reader *tstream_open(const char *path, size_t threads)
{
    bool standard = !path || !strcmp(path, "-");
    struct byte_input input = {.name = standard ? "standard input" : path, .fd = STDIN_FILENO};
    if (standard && fd_refuse_terminal(STDIN_FILENO, input.name) < 0)
        return NULL;
    if (!standard && (input.fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        error_set_errno(STATUS_NO_INPUT, "%s: cannot open", path);
        return NULL;
    }
    off_t at = lseek(input.fd, 0, SEEK_CUR);
    input.offset = at < 0 ? 0 : (uint64_t)at;
    fcntl(input.fd, F_SETPIPE_SZ, 1 << 20); // saves context switches; may fail without harm
    struct tstream_reader *reader = tstream_open_input(&input, threads);
    if (!standard && reader)
        reader->fd = input.fd;
    else if (!standard)
        close(input.fd);
    return reader;
}

const struct schema *tstream_schema(const struct tstream_reader *reader)
{
    return reader->schema;
}

const char *tstream_name(const struct tstream_reader *reader)
{
    return reader->name;
}

const struct frame_place *tstream_place(const struct tstream_reader *reader)
{
    return &reader->place;
}

const struct tstream_totals *tstream_totals(const struct tstream_reader *reader)
{
    return &reader->totals;
}

void tstream_close(struct tstream_reader *reader)
{
    if (!reader)
        return;
    if (reader->started) {
        budget_close(&reader->budget);
        pool_close(reader->pool);
        close(reader->wake[1]); // the other end becomes readable
        reader->wake[1] = -1;
        pthread_join(reader->thread, NULL);
    }
    pool_free(reader->pool, decode_job_free);
    contexts_free(&reader->contexts);
    budget_free(&reader->budget);
    for (size_t i = 0; i < 2; i++)
        if (reader->wake[i] >= 0)
            close(reader->wake[i]);
    if (reader->fd >= 0)
        close(reader->fd);
    byte_input_free(&reader->input);
    schema_free(reader->schema);
    free(reader->segment.rows);
    free(reader->segment.entries);
    free(reader->name);
    free(reader);
}
