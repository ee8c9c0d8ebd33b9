// Reads frames from an untrusted input and decompresses them.
// SPDX-License-Identifier: MIT
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define CHECKSUM_SIZE 4
#define BUFFER_SIZE   ((size_t)16 << 10)
#define PIECE_MAX     ((size_t)256 << 10) // a seek table is read in pieces: its stated size may lie
#define BLOCK_MAX     ((size_t)128 << 10) // of zstd
#define ZIP_MAGIC     0x04034B50u         // "PK" 3 4: of a file in a zip archive
// Frames' buffers begin at a page, and their documents DOCUMENT_ROOM bytes after one. The kernel
// and libc copy by `rep movsb`, which on Zen 3 runs at a quarter of its speed if the target's
// offset within its page is 1 to 63 bytes above the source's. Copies from a pipe's pages into what
// malloc returns would hit that case.
#define PAGE          ((size_t)4096)
#define DOCUMENT_ROOM ((size_t)1024) // leaves space for a larger header, too

// Returns the first page boundary within *allocation. aligned_alloc would fragment the heap: it
// can't reuse a freed block of the same size.
static uint8_t *allocate_pages(size_t size, uint8_t **allocation)
{
    if (!(*allocation = malloc(size + PAGE))) {
        error_set(STATUS_INTERNAL, "out of memory: %zu bytes for a frame", size);
        return NULL;
    }
    return *allocation + (-(uintptr_t)*allocation & (PAGE - 1));
}

int byte_input_init(struct byte_input *input, const char *name, int fd)
{
    *input = (struct byte_input){.name = name, .fd = fd, .wake = -1};
    return (input->buffer = allocate_pages(BUFFER_SIZE, &input->allocation)) ? 0 : -1;
}

void byte_input_free(struct byte_input *input)
{
    free(input->allocation);
}

static int fail_at(const struct byte_input *input, uint64_t offset, const char *what)
{
    return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": %s", input->name, offset, what);
}

// Reads up to `size` bytes from the descriptor. *got is 0 at the end of the input.
static int byte_input_read(struct byte_input *input, uint8_t *bytes, size_t size, size_t *got)
{
    for (;;) {
        if (input->wake >= 0) {
            struct pollfd ready[] = {{.fd = input->fd, .events = POLLIN},
                                     {.fd = input->wake, .events = POLLIN}};
            if (poll(ready, 2, -1) < 0 && errno != EINTR)
                return error_set_errno(STATUS_INTERNAL, "%s: poll", input->name);
            if (ready[1].revents)
                return error_set(STATUS_INTERNAL, "%s: reading was stopped", input->name);
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

// Points *bytes to up to `size` bytes within the buffer. *got is 0 at the end of the input.
static int byte_input_next(struct byte_input *input, size_t size, const uint8_t **bytes,
                           size_t *got)
{
    if (input->begin == input->fill) {
        input->begin = 0;
        if (byte_input_read(input, input->buffer, BUFFER_SIZE, &input->fill) < 0)
            return -1;
    }
    size_t left = input->fill - input->begin;
    *got = size < left ? size : left;
    *bytes = input->buffer + input->begin;
    input->begin += *got;
    input->offset += *got;
    return 0;
}

static int fail_cut(const struct byte_input *input, const struct frame *frame)
{
    return error_set(STATUS_DATA,
                     "%s: byte %" PRIu64
                     ": cut short within the frame that begins at byte %" PRIu64,
                     input->name, input->offset, frame->offset);
}

// Makes room for `size` more bytes. Allocates in proportion to what the input has delivered, not by
// the size that a frame states.
static int frame_reserve(const struct byte_input *input, struct frame *frame, size_t size)
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
static int frame_append(struct byte_input *input, struct frame *frame, size_t size)
{
    if (frame_reserve(input, frame, size) < 0)
        return -1;
    while (size) {
        const uint8_t *bytes;
        size_t got;
        if (input->begin == input->fill && size >= BUFFER_SIZE) {
            if (byte_input_read(input, frame->bytes + frame->size, size, &got) < 0)
                return -1;
            input->offset += got;
        } else if (byte_input_next(input, size, &bytes, &got) < 0)
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
static int read_zstd_header(struct byte_input *input, struct frame *frame)
{
    static const uint8_t content_sizes[] = {0, 2, 4, 8};
    if (frame_append(input, frame, 1) < 0)
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
    if (frame_append(input, frame, !single + content_size) < 0)
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

static int read_table_header(struct byte_input *input, struct frame *frame)
{
    if (frame_append(input, frame, 4) < 0)
        return -1;
    frame->is_table = true;
    frame->content = (uint32_t)get_le(frame->bytes + 4, 4);
    if (frame->content < TSTREAM_TABLE_FOOTER ||
        (frame->content - TSTREAM_TABLE_FOOTER) % sizeof(struct seek_entry) ||
        TSTREAM_TABLE_HEADER + frame->content > seek_table_size(TSTREAM_FRAMES_MAX + 2))
        return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": no seek table has %zu bytes",
                         input->name, frame->offset, frame->content);
    return 1;
}

int frame_read_header(struct byte_input *input, struct frame *frame)
{
    *frame = (struct frame){.offset = input->offset};
    const uint8_t *bytes;
    size_t got;
    if (byte_input_next(input, 1, &bytes, &got) < 0)
        return -1;
    if (!got)
        return 0;
    if (frame_reserve(input, frame, 4) < 0)
        return -1;
    frame->bytes[frame->size++] = *bytes;
    if (frame_append(input, frame, 3) < 0)
        return -1;
    uint32_t magic = (uint32_t)get_le(frame->bytes, 4);
    if (magic == TSTREAM_ZSTD_MAGIC)
        return read_zstd_header(input, frame);
    if (magic == TSTREAM_SKIPPABLE_MAGIC)
        return read_table_header(input, frame);
    if (magic == ZIP_MAGIC)
        return error_set(STATUS_DATA,
                         "%s: byte %" PRIu64
                         ": not a tensor stream but a zip archive: where an .npz is accepted, it "
                         "must be a regular file, given by its name",
                         input->name, frame->offset);
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

static int fail_decompress(size_t code)
{
    bool memory = ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation;
    return error_set(memory ? STATUS_INTERNAL : STATUS_DATA, "%s", ZSTD_getErrorName(code));
}

// Decompresses a large frame while it is read.
struct frame_decoder {
    ZSTD_DCtx *context;
    ZSTD_outBuffer out;
    size_t left; // zstd's hint of the bytes still to come; 0 at the end of the frame
};

static int decoder_write(struct frame_decoder *decoder, const uint8_t *bytes, size_t size)
{
    ZSTD_inBuffer in = {bytes, size, 0};
    while (in.pos < in.size) {
        size_t pos = in.pos, out = decoder->out.pos;
        decoder->left = ZSTD_decompressStream(decoder->context, &decoder->out, &in);
        if (ZSTD_isError(decoder->left))
            return fail_decompress(decoder->left);
        if (in.pos == pos && decoder->out.pos == out)
            return error_set(STATUS_DATA, "the frame holds more than the content it states");
    }
    return 0;
}

// Passes the next `size` bytes to the decoder, or appends them to the frame if there is none.
static int read_compressed(struct byte_input *input, struct frame *frame,
                           struct frame_decoder *decoder, size_t size)
{
    if (!decoder)
        return frame_append(input, frame, size);
    while (size) {
        const uint8_t *bytes;
        size_t got;
        if (byte_input_next(input, size, &bytes, &got) < 0)
            return -1;
        if (!got)
            return fail_cut(input, frame);
        if (decoder_write(decoder, bytes, got) < 0)
            return error_prefix("%s: byte %" PRIu64, input->name, frame->offset);
        frame->size += got;
        size -= got;
    }
    return 0;
}

// Reads up to the end of the frame, which the headers of its blocks tell: RFC 8878, section
// 3.1.1.2.
static int read_blocks(struct byte_input *input, struct frame *frame, struct frame_decoder *decoder)
{
    size_t bound = ZSTD_compressBound(frame->content);
    for (bool last = false; !last;) {
        uint64_t offset = input->offset;
        uint8_t header[3];
        for (size_t i = 0; i < 3; i++) {
            const uint8_t *byte;
            size_t got;
            if (byte_input_next(input, 1, &byte, &got) < 0)
                return -1;
            if (!got)
                return fail_cut(input, frame);
            header[i] = *byte;
        }
        last = header[0] & 1;
        enum { RUN = 1, RESERVED = 3 } type = header[0] >> 1 & 3;
        size_t size = (size_t)get_le(header, 3) >> 3;
        if (type == RESERVED || size > BLOCK_MAX)
            return fail_at(input, offset, "not a zstd block");
        if (type == RUN)
            size = 1; // one byte, repeated `size` times
        if (frame->size + 3 + size + CHECKSUM_SIZE > bound)
            return error_set(STATUS_DATA,
                             "%s: byte %" PRIu64
                             ": the frame takes more than %zu bytes, the bound for its content",
                             input->name, offset, bound);
        if (decoder) {
            if (decoder_write(decoder, header, 3) < 0)
                return error_prefix("%s: byte %" PRIu64, input->name, frame->offset);
            frame->size += 3;
        } else {
            if (frame_reserve(input, frame, 3) < 0)
                return -1;
            memcpy(frame->bytes + frame->size, header, 3);
            frame->size += 3;
        }
        if (read_compressed(input, frame, decoder, size) < 0)
            return -1;
    }
    return read_compressed(input, frame, decoder, CHECKSUM_SIZE);
}

static int read_large(struct byte_input *input, struct frame *frame, struct contexts *contexts)
{
    struct frame_decoder decoder = {.context = contexts_acquire(contexts), .left = 1};
    if (!decoder.context || frame_allocate(frame) < 0) {
        contexts_release(contexts, decoder.context);
        return -1;
    }
    decoder.out = (ZSTD_outBuffer){frame->document, frame->content, 0};
    int rc = decoder_write(&decoder, frame->bytes, frame->size);
    rc = rc < 0 ? error_prefix("%s: byte %" PRIu64, input->name, frame->offset)
                : read_blocks(input, frame, &decoder);
    // zstd itself rejects a frame whose content is not of the size that it states.
    assert(rc < 0 || (!decoder.left && decoder.out.pos == frame->content));
    contexts_release(contexts, decoder.context);
    return rc;
}

int frame_read_body(struct byte_input *input, struct frame *frame, struct contexts *contexts)
{
    if (frame->is_table) {
        for (size_t left = frame->content; left;) {
            size_t part = left < PIECE_MAX ? left : PIECE_MAX;
            if (frame_append(input, frame, part) < 0)
                return -1;
            left -= part;
        }
        return 0;
    }
    if (frame->content > TSTREAM_LARGE)
        return read_large(input, frame, contexts);
    int rc = read_blocks(input, frame, NULL);
    input->frame_size = frame->size;
    return rc;
}

int frame_decompress(struct frame *frame, struct contexts *contexts)
{
    if (frame->is_table || frame->document)
        return 0;
    ZSTD_DCtx *context = contexts_acquire(contexts);
    if (!context || frame_allocate(frame) < 0) {
        contexts_release(contexts, context);
        return -1;
    }
    size_t n =
        ZSTD_decompressDCtx(context, frame->document, frame->content, frame->bytes, frame->size);
    contexts_release(contexts, context);
    free(frame->bytes_allocation);
    frame->bytes = frame->bytes_allocation = NULL;
    if (ZSTD_isError(n))
        return fail_decompress(n);
    assert(n == frame->content); // zstd has checked it
    return 0;
}

void frame_free(struct frame *frame)
{
    safetensors_close(&frame->doc);
    free(frame->bytes_allocation);
    free(frame->allocation);
    *frame = (struct frame){0};
}
