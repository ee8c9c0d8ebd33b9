// Frames: taken from the input without trust, and decompressed.
// SPDX-License-Identifier: MIT
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define BUFFER_SIZE ((size_t)16 << 10)
#define PIECE_MAX   ((size_t)256 << 10) // of what is read ahead of all checks
#define BLOCK_MAX   ((size_t)128 << 10)
// Buffers of frames begin with a page, and documents this far from one. Copies by `rep movsb`, as
// the kernel and libc do, run at a quarter of their speed on Zen 3 where the target lies 1 to 63
// bytes after the source, but for whole pages; so they would from a pipe into what malloc gives.
#define PAGE          ((size_t)4096)
#define DOCUMENT_ROOM ((size_t)1024) // also for a larger header

void budget_init(struct budget *budget, size_t threads)
{
    *budget = (struct budget){.limit = (threads > 2 ? threads : 2) * TSTREAM_LARGE};
    pthread_mutex_init(&budget->lock, NULL);
    pthread_cond_init(&budget->freed, NULL);
}

void budget_free(struct budget *budget)
{
    pthread_mutex_destroy(&budget->lock);
    pthread_cond_destroy(&budget->freed);
}

int budget_take(struct budget *budget, size_t size)
{
    pthread_mutex_lock(&budget->lock);
    while (!budget->closed && budget->used && budget->used + size > budget->limit)
        pthread_cond_wait(&budget->freed, &budget->lock);
    bool closed = budget->closed;
    if (!closed)
        budget->used += size;
    pthread_mutex_unlock(&budget->lock);
    return closed ? -1 : 0;
}

void budget_give(struct budget *budget, size_t size)
{
    pthread_mutex_lock(&budget->lock);
    assert(size <= budget->used);
    budget->used -= size;
    pthread_cond_broadcast(&budget->freed);
    pthread_mutex_unlock(&budget->lock);
}

void budget_wait_empty(struct budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    while (budget->used)
        pthread_cond_wait(&budget->freed, &budget->lock);
    pthread_mutex_unlock(&budget->lock);
}

void budget_close(struct budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    budget->closed = true;
    pthread_cond_broadcast(&budget->freed);
    pthread_mutex_unlock(&budget->lock);
}

size_t frame_cost(size_t content)
{
    return content + ZSTD_compressBound(content);
}

void contexts_init(struct contexts *contexts)
{
    contexts->n = 0;
    pthread_mutex_init(&contexts->lock, NULL);
}

void *contexts_take(struct contexts *contexts)
{
    pthread_mutex_lock(&contexts->lock);
    void *context = contexts->n ? contexts->idle[--contexts->n] : NULL;
    pthread_mutex_unlock(&contexts->lock);
    return context;
}

bool contexts_put(struct contexts *contexts, void *context)
{
    pthread_mutex_lock(&contexts->lock);
    bool room = contexts->n < CONTEXTS_MAX;
    if (room)
        contexts->idle[contexts->n++] = context;
    pthread_mutex_unlock(&contexts->lock);
    return room;
}

void contexts_free(struct contexts *contexts, size_t (*drop)(void *context))
{
    while (contexts->n)
        drop(contexts->idle[--contexts->n]);
    pthread_mutex_destroy(&contexts->lock);
}

// Begins with a page within *allocation. Not aligned_alloc, which leaves splinters behind and so
// finds no room where a block of the same size was freed.
static uint8_t *allocate_pages(size_t size, uint8_t **allocation)
{
    if (!(*allocation = malloc(size + PAGE))) {
        error_set(STATUS_INTERNAL, "out of memory: %zu bytes for a frame", size);
        return NULL;
    }
    return *allocation + (-(uintptr_t)*allocation & (PAGE - 1));
}

int input_init(struct input *input, const char *name, int fd)
{
    *input = (struct input){.name = name, .fd = fd, .wake = -1};
    return (input->buffer = allocate_pages(BUFFER_SIZE, &input->allocation)) ? 0 : -1;
}

void input_free(struct input *input)
{
    free(input->allocation);
}

static int fail_at(const struct input *input, uint64_t offset, const char *what)
{
    return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": %s", input->name, offset, what);
}

// Reads up to `size` bytes from the descriptor; *got is 0 at the end of the input.
static int input_read(struct input *input, uint8_t *bytes, size_t size, size_t *got)
{
    for (;;) {
        if (input->wake >= 0) {
            struct pollfd ready[] = {{.fd = input->fd, .events = POLLIN},
                                     {.fd = input->wake, .events = POLLIN}};
            if (poll(ready, 2, -1) < 0 && errno != EINTR)
                return error_set_errno(STATUS_INTERNAL, "%s: poll", input->name);
            if (ready[1].revents)
                return error_set(STATUS_INTERNAL, "%s: the reading was stopped", input->name);
        }
        if (input->random && input->end - input->offset < size)
            size = (size_t)(input->end - input->offset);
        ssize_t n = input->random ? pread(input->fd, bytes, size, (off_t)input->offset)
                                  : read(input->fd, bytes, size);
        if (n >= 0) {
            *got = (size_t)n;
            return 0;
        }
        if (errno != EINTR && errno != EAGAIN)
            return error_set_errno(STATUS_NO_INPUT, "%s: byte %" PRIu64 ": cannot read",
                                   input->name, input->offset);
    }
}

// Gives up to `size` bytes where they are; *got is 0 at the end of the input.
static int input_next(struct input *input, size_t size, const uint8_t **bytes, size_t *got)
{
    if (input->begin == input->fill) {
        input->begin = 0;
        if (input_read(input, input->buffer, BUFFER_SIZE, &input->fill))
            return -1;
    }
    size_t left = input->fill - input->begin;
    *got = size < left ? size : left;
    *bytes = input->buffer + input->begin;
    input->begin += *got;
    input->offset += *got;
    return 0;
}

static int fail_cut(const struct input *input, const struct frame *frame)
{
    return error_set(STATUS_DATA,
                     "%s: byte %" PRIu64
                     ": cut short within the frame that begins at byte %" PRIu64,
                     input->name, input->offset, frame->offset);
}

// Makes room for `size` more bytes; never much more than what the input has held so far.
static int frame_reserve(const struct input *input, struct frame *frame, size_t size)
{
    size_t need = frame->size + size;
    if (need <= frame->room)
        return 0;
    size_t room = frame->room ? 2 * frame->room : input->frame_size + input->frame_size / 8 + 1024;
    if (room < need)
        room = need;
    uint8_t *allocation, *bytes = allocate_pages(room, &allocation);
    if (!bytes)
        return -1;
    if (frame->size)
        memcpy(bytes, frame->bytes, frame->size);
    free(frame->bytes_allocation);
    frame->bytes_allocation = allocation;
    frame->bytes = bytes;
    frame->room = room;
    return 0;
}

// Appends the next `size` bytes of the input to the frame's.
static int frame_append(struct input *input, struct frame *frame, size_t size)
{
    if (frame_reserve(input, frame, size))
        return -1;
    while (size) {
        const uint8_t *bytes;
        size_t got;
        if (input->begin == input->fill && size >= BUFFER_SIZE) {
            if (input_read(input, frame->bytes + frame->size, size, &got))
                return -1;
            input->offset += got;
        } else if (input_next(input, size, &bytes, &got))
            return -1;
        else if (got)
            memcpy(frame->bytes + frame->size, bytes, got);
        if (!got)
            return fail_cut(input, frame);
        frame->size += got;
        size -= got;
    }
    return 0;
}

// RFC 8878, section 3.1.1.1.
static int take_zstd_header(struct input *input, struct frame *frame)
{
    static const uint8_t content_sizes[] = {0, 2, 4, 8};
    if (frame_append(input, frame, 1))
        return -1;
    uint8_t descriptor = frame->bytes[4];
    bool single = descriptor & 0x20;
    size_t content_size = descriptor >> 6 || !single ? content_sizes[descriptor >> 6] : 1;
    if (descriptor & 0x0B)
        return fail_at(input, frame->offset,
                       descriptor & 8 ? "a reserved bit of the frame is set"
                                      : "the frame asks for a dictionary");
    if (!(descriptor & 4))
        return fail_at(input, frame->offset, "the frame has no checksum");
    if (!content_size)
        return fail_at(input, frame->offset, "the frame does not state the size of its content");
    if (frame_append(input, frame, !single + content_size))
        return -1;
    uint64_t content = get_le(frame->bytes + frame->size - content_size, content_size);
    content += content_size == 2 ? 256 : 0;
    uint64_t window = content;
    if (!single) {
        window = (uint64_t)1 << (10 + (frame->bytes[5] >> 3));
        window += window / 8 * (frame->bytes[5] & 7);
    }
    if (content > TSTREAM_CONTENT_MAX)
        return error_set(STATUS_DATA,
                         "%s: byte %" PRIu64 ": the frame states a content of %" PRIu64
                         " bytes, at most %zu",
                         input->name, frame->offset, content, TSTREAM_CONTENT_MAX);
    if (window > TSTREAM_WINDOW_MAX)
        return error_set(STATUS_DATA,
                         "%s: byte %" PRIu64 ": the frame has a window of %" PRIu64
                         " bytes, at most %zu",
                         input->name, frame->offset, window, TSTREAM_WINDOW_MAX);
    frame->content = (size_t)content;
    return 1;
}

static int take_table_header(struct input *input, struct frame *frame)
{
    if (frame_append(input, frame, 4))
        return -1;
    frame->table = true;
    frame->content = (uint32_t)get_le(frame->bytes + 4, 4);
    if (frame->content < TSTREAM_TABLE_FIXED || (frame->content - TSTREAM_TABLE_FIXED) % 8 ||
        frame->content > TSTREAM_TABLE_FIXED + 8 * (TSTREAM_FRAMES_MAX + 2))
        return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": no seek table has %zu bytes",
                         input->name, frame->offset, frame->content);
    return 1;
}

int frame_take_header(struct input *input, struct frame *frame)
{
    *frame = (struct frame){.offset = input->offset};
    const uint8_t *bytes;
    size_t got;
    if (input_next(input, 1, &bytes, &got))
        return -1;
    if (!got)
        return 0;
    if (frame_reserve(input, frame, 4))
        return -1;
    frame->bytes[frame->size++] = *bytes;
    if (frame_append(input, frame, 3))
        return -1;
    uint32_t magic = (uint32_t)get_le(frame->bytes, 4);
    if (magic == TSTREAM_MAGIC)
        return take_zstd_header(input, frame);
    if (magic == TSTREAM_TABLE_MAGIC)
        return take_table_header(input, frame);
    return error_set(
        STATUS_DATA,
        "%s: byte %" PRIu64
        ": not a tensor stream: expected a zstd frame or a seek table, found %02X %02X "
        "%02X %02X",
        input->name, frame->offset, frame->bytes[0], frame->bytes[1], frame->bytes[2],
        frame->bytes[3]);
}

static int frame_allocate(struct frame *frame)
{
    uint8_t *pages = allocate_pages(DOCUMENT_ROOM + frame->content, &frame->allocation);
    if (!pages)
        return -1;
    frame->document = pages + DOCUMENT_ROOM;
    frame->allocation_size = DOCUMENT_ROOM + frame->content + PAGE;
    return 0;
}

static ZSTD_DCtx *take_context(struct contexts *contexts)
{
    ZSTD_DCtx *context = contexts_take(contexts);
    if (!context && !(context = ZSTD_createDCtx()))
        error_set(STATUS_INTERNAL, "out of memory");
    return context;
}

static void put_context(struct contexts *contexts, ZSTD_DCtx *context)
{
    ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
    if (!contexts_put(contexts, context))
        ZSTD_freeDCtx(context);
}

// Where a large frame is decoded as it is read.
struct sink {
    ZSTD_DCtx *context;
    ZSTD_outBuffer out;
    size_t left; // what the decoder still expects; 0 at the end of the frame
};

static int sink_write(struct sink *sink, const uint8_t *bytes, size_t size)
{
    ZSTD_inBuffer in = {bytes, size, 0};
    while (in.pos < in.size) {
        size_t pos = in.pos, out = sink->out.pos;
        sink->left = ZSTD_decompressStream(sink->context, &sink->out, &in);
        if (ZSTD_isError(sink->left))
            return error_set(STATUS_DATA, "%s", ZSTD_getErrorName(sink->left));
        if (in.pos == pos && sink->out.pos == out)
            return error_set(STATUS_DATA, "the frame holds more than the content it states");
    }
    return 0;
}

// The next `size` bytes go to the sink, or without one to the frame's bytes.
static int take_bytes(struct input *input, struct frame *frame, struct sink *sink, size_t size)
{
    if (!sink)
        return frame_append(input, frame, size);
    while (size) {
        const uint8_t *bytes;
        size_t got;
        if (input_next(input, size, &bytes, &got))
            return -1;
        if (!got)
            return fail_cut(input, frame);
        if (sink_write(sink, bytes, got))
            return error_prefix("%s: byte %" PRIu64, input->name, frame->offset);
        frame->size += got;
        size -= got;
    }
    return 0;
}

// Finds the end of the frame by its blocks' headers: RFC 8878, section 3.1.1.2.
static int take_blocks(struct input *input, struct frame *frame, struct sink *sink)
{
    size_t bound = ZSTD_compressBound(frame->content);
    for (bool last = false; !last;) {
        uint64_t offset = input->offset;
        uint8_t header[3];
        for (size_t i = 0; i < 3; i++) {
            const uint8_t *byte;
            size_t got;
            if (input_next(input, 1, &byte, &got))
                return -1;
            if (!got)
                return fail_cut(input, frame);
            header[i] = *byte;
        }
        last = header[0] & 1;
        unsigned type = header[0] >> 1 & 3;
        size_t size = (size_t)get_le(header, 3) >> 3;
        if (type == 3 || size > BLOCK_MAX)
            return fail_at(input, offset, "not a zstd block");
        if (type == 1)
            size = 1; // one byte, repeated `size` times
        if (frame->size + 3 + size + 4 > bound)
            return error_set(STATUS_DATA,
                             "%s: byte %" PRIu64
                             ": the frame takes more than %zu bytes, the bound for its content",
                             input->name, offset, bound);
        if (sink) {
            if (sink_write(sink, header, 3))
                return error_prefix("%s: byte %" PRIu64, input->name, frame->offset);
            frame->size += 3;
        } else {
            if (frame_reserve(input, frame, 3))
                return -1;
            memcpy(frame->bytes + frame->size, header, 3);
            frame->size += 3;
        }
        if (take_bytes(input, frame, sink, size))
            return -1;
    }
    return take_bytes(input, frame, sink, 4); // the checksum
}

static int take_large(struct input *input, struct frame *frame, struct contexts *contexts)
{
    struct sink sink = {.context = take_context(contexts), .left = 1};
    if (!sink.context || frame_allocate(frame))
        return -1;
    sink.out = (ZSTD_outBuffer){frame->document, frame->content, 0};
    int rc = sink_write(&sink, frame->bytes, frame->size);
    rc = rc ? error_prefix("%s: byte %" PRIu64, input->name, frame->offset)
            : take_blocks(input, frame, &sink);
    assert(rc || (!sink.left && sink.out.pos == frame->content)); // zstd has checked
    put_context(contexts, sink.context);
    return rc;
}

int frame_take_body(struct input *input, struct frame *frame, struct contexts *contexts)
{
    if (frame->table) {
        for (size_t left = frame->content; left;) {
            size_t part = left < PIECE_MAX ? left : PIECE_MAX;
            if (frame_append(input, frame, part))
                return -1;
            left -= part;
        }
        return 0;
    }
    if (frame->content > TSTREAM_LARGE)
        return take_large(input, frame, contexts);
    int rc = take_blocks(input, frame, NULL);
    input->frame_size = frame->size;
    return rc;
}

int frame_decompress(struct frame *frame, struct contexts *contexts)
{
    if (frame->table || frame->document)
        return 0;
    ZSTD_DCtx *context = take_context(contexts);
    if (!context || frame_allocate(frame))
        return -1;
    size_t n =
        ZSTD_decompressDCtx(context, frame->document, frame->content, frame->bytes, frame->size);
    put_context(contexts, context);
    free(frame->bytes_allocation);
    frame->bytes = frame->bytes_allocation = NULL;
    if (ZSTD_isError(n))
        return error_set(STATUS_DATA, "%s", ZSTD_getErrorName(n));
    assert(n == frame->content); // zstd has checked
    return 0;
}

void frame_free(struct frame *frame)
{
    safetensors_close(&frame->doc);
    free(frame->bytes_allocation);
    free(frame->allocation);
    *frame = (struct frame){0};
}
