// Reading streams in order: one thread takes frames from the input, workers decode them ahead, the
// user's thread checks that they follow each other as they should. SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"

enum state { BETWEEN_SEGMENTS, IN_SEGMENT, AFTER_END };

// What was found in the segment so far.
struct segment {
    enum state state;
    uint64_t first, records; // of the stream before it, and of it
    int64_t *rows;           // of its data frames
    size_t n_rows;
    struct seek_entry *entries; // of all its frames
    size_t n_entries;
};

struct tstream_reader {
    char *name;
    int fd; // to close, or -1
    int wake[2];
    struct input input;
    struct schema *schema;
    struct pool *pool;
    struct budget budget;
    struct contexts contexts;
    pthread_t thread;
    bool started;
    bool input_failed; // set by the thread before it closes the pool
    struct error input_error;
    size_t held; // cost of the batch that the user has
    struct segment segment;
    struct frame_place place; // of the batch handed out last
    struct tstream_totals totals;
    bool failed;
    struct error error;
};

struct job {
    struct tstream_reader *reader;
    struct frame frame;
    size_t cost;
    bool failed;
    struct error error;
};

static size_t drop_context(void *context)
{
    return ZSTD_freeDCtx(context);
}

static void job_free(void *arg)
{
    struct job *job = arg;
    frame_free(&job->frame);
    free(job);
}

static void decode_job(void *arg)
{
    struct job *job = arg;
    job->failed = frame_decode(&job->frame, &job->reader->contexts);
    if (job->failed) {
        error_prefix("%s: byte %" PRIu64, job->reader->name, job->frame.offset);
        error_save(&job->error);
    }
}

// 1, 0 at the end, -1.
static int take_job(struct tstream_reader *reader, struct job *job)
{
    job->reader = reader;
    int rc = frame_take_header(&reader->input, &job->frame);
    if (rc <= 0)
        return rc;
    job->cost = frame_cost(job->frame.content);
    if (budget_take(&reader->budget, job->cost))
        return error_set(STATUS_INTERNAL, "%s: the reading was stopped", reader->name);
    return frame_take_body(&reader->input, &job->frame, &reader->contexts) ? -1 : 1;
}

static void *read_ahead(void *arg)
{
    struct tstream_reader *reader = arg;
    int rc = 1;
    while (rc > 0) {
        struct job *job = mem_new(1, sizeof *job);
        rc = job ? take_job(reader, job) : -1;
        if (rc > 0 && pool_submit(reader->pool, decode_job, job))
            rc = -1;
        if (rc < 0) {
            error_save(&reader->input_error);
            reader->input_failed = true;
        }
        if (rc <= 0 && job)
            job_free(job);
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
        if (rc)
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
    if (segment_add(segment, frame))
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
    return 1;
}

static int take_end(struct tstream_reader *reader, const struct frame *frame)
{
    struct segment *segment = &reader->segment;
    if (frame_check_end(frame, reader->schema, segment->rows, segment->n_rows))
        return -1;
    segment->state = AFTER_END;
    return segment_add(segment, frame);
}

static int take_table(struct tstream_reader *reader, const struct frame *frame)
{
    struct segment *segment = &reader->segment;
    if (seek_table_check(frame, segment->entries, segment->n_entries))
        return -1;
    segment->state = BETWEEN_SEGMENTS;
    reader->totals.segments++;
    return 0;
}

// 1 with a batch, 0 if the frame held none, -1.
static int take_frame(struct tstream_reader *reader, struct frame *frame, struct batch **batch)
{
    static const char *const expected[] = {
        [BETWEEN_SEGMENTS] = "a begin frame",
        [IN_SEGMENT] = "a data frame or an end frame",
        [AFTER_END] = "a seek table",
    };
    enum state state = reader->segment.state;
    enum frame_kind kind = frame_kind(frame);
    reader->totals.size += frame->size;
    reader->totals.content += frame->table ? 0 : frame->content;
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
        return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": empty: not even a begin frame",
                         reader->name, reader->input.offset);
    if (reader->segment.state != BETWEEN_SEGMENTS)
        return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": %s", reader->name,
                         reader->input.offset, missing[reader->segment.state]);
    return 0;
}

// The next frame: 1 with a batch, 2 if it held none, 0 at the end, -1.
static int next_frame(struct tstream_reader *reader, struct batch **batch)
{
    struct job *job = pool_collect(reader->pool, POOL_WAIT_UNTIL_END);
    if (!job)
        return take_end_of_input(reader);
    int rc;
    if (job->failed)
        rc = error_restore(&job->error);
    else if ((rc = take_frame(reader, &job->frame, batch)) < 0)
        error_prefix("%s: byte %" PRIu64, reader->name, job->frame.offset);
    size_t cost = job->cost;
    job_free(job);
    if (rc == 1)
        reader->held = cost;
    else
        budget_give(&reader->budget, cost);
    return rc == 0 ? 2 : rc;
}

static int fail(struct tstream_reader *reader)
{
    error_save(&reader->error);
    reader->failed = true;
    return -1;
}

int tstream_read(struct tstream_reader *reader, struct batch **batch)
{
    *batch = NULL;
    if (reader->failed)
        return error_restore(&reader->error);
    if (reader->held)
        budget_give(&reader->budget, reader->held);
    reader->held = 0;
    int rc;
    do
        rc = next_frame(reader, batch);
    while (rc == 2);
    return rc < 0 ? fail(reader) : rc;
}

static int start(struct tstream_reader *reader, size_t threads)
{
    if (pipe2(reader->wake, O_CLOEXEC)) {
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

static int read_begin(struct tstream_reader *reader)
{
    struct batch *batch;
    if (next_frame(reader, &batch) < 0)
        return -1;
    return 0;
}

struct tstream_reader *tstream_open_input(const struct input *input, size_t threads)
{
    struct tstream_reader *reader = mem_new(1, sizeof *reader);
    if (!reader)
        return NULL;
    threads = threads ? threads : 1;
    reader->fd = reader->wake[0] = reader->wake[1] = -1;
    budget_init(&reader->budget, threads);
    contexts_init(&reader->contexts);
    reader->name = mem_strdup(input->name);
    if (!reader->name || input_init(&reader->input, reader->name, input->fd)) {
        tstream_close(reader);
        return NULL;
    }
    reader->input.random = input->random;
    reader->input.offset = input->offset;
    reader->input.end = input->end;
    if (start(reader, threads) || read_begin(reader)) {
        tstream_close(reader);
        return NULL;
    }
    return reader;
}

struct tstream_reader *tstream_open(const char *path, size_t threads)
{
    bool standard = !path || !strcmp(path, "-");
    struct input input = {.name = standard ? "standard input" : path, .fd = STDIN_FILENO};
    if (standard && fd_refuse_terminal(STDIN_FILENO, input.name) < 0)
        return NULL;
    if (!standard && (input.fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        error_set_errno(STATUS_NO_INPUT, "%s: cannot open", path);
        return NULL;
    }
    off_t at = lseek(input.fd, 0, SEEK_CUR);
    input.offset = at < 0 ? 0 : (uint64_t)at;
    fcntl(input.fd, F_SETPIPE_SZ, 1 << 20); // fewer switches; no harm where it does not work
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

uint64_t tstream_offset(const struct tstream_reader *reader)
{
    return reader->place.offset;
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
    pool_free(reader->pool, job_free);
    contexts_free(&reader->contexts, drop_context);
    budget_free(&reader->budget);
    for (size_t i = 0; i < 2; i++)
        if (reader->wake[i] >= 0)
            close(reader->wake[i]);
    if (reader->fd >= 0)
        close(reader->fd);
    input_free(&reader->input);
    schema_free(reader->schema);
    free(reader->segment.rows);
    free(reader->segment.entries);
    free(reader->name);
    free(reader);
}
