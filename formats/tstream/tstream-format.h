// The parts that readers and writers of streams are built from; private to formats/tstream.
// SPDX-License-Identifier: MIT
#ifndef DIT_TSTREAM_FORMAT_H
#define DIT_TSTREAM_FORMAT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/containers/safetensors.h"
#include "formats/tstream/tstream.h"
#include "lib/base/budget.h"
#include "lib/base/bytes.h"

#define TSTREAM_VERSION         "1"
#define TSTREAM_ROWS_NAME       "rows" // the tensor that only end frames have
#define TSTREAM_ALIGNMENT       64     // a document's data begins at a multiple of this
#define TSTREAM_HEADER_MAX      ((size_t)1 << 20)
#define TSTREAM_WINDOW_MAX      ((size_t)8 << 20)
#define TSTREAM_FRAMES_MAX      ((size_t)1 << 21) // data frames of a segment
#define TSTREAM_ZSTD_MAGIC      0xFD2FB528u
#define TSTREAM_SKIPPABLE_MAGIC 0x184D2A5Eu // of the skippable frame that holds a seek table
#define TSTREAM_SEEKABLE_MAGIC  0x8F92EAB1u // the last 4 bytes of a seek table
#define TSTREAM_TABLE_HEADER    ((size_t)8) // bytes before a seek table's entries: magic and size
#define TSTREAM_TABLE_FOOTER    ((size_t)9) // bytes after them: count, descriptor and magic
// A frame with more content is decompressed while it is read and compressed while it is written, so
// that its compressed form is never in memory as a whole.
#define TSTREAM_LARGE ((size_t)8 << 20)

// The bytes in memory of all frames between a reader's input and its user, or between a writer's
// user and its output, with so many threads.
size_t frames_memory(size_t threads);
// Bytes to acquire for a frame: its content and the most that this may take when compressed.
size_t frame_memory(size_t content);

// Idle zstd contexts (ZSTD_DCtx or ZSTD_CCtx). Up to `room` are kept because their tables are
// costly to allocate. Thread-safe.
#define CONTEXTS_MAX 64
struct contexts {
    bool compress;
    int level; // of compression
    pthread_mutex_t lock;
    size_t n, room;
    void *idle[CONTEXTS_MAX];
};
void contexts_init_decompress(struct contexts *contexts, size_t room); // at most CONTEXTS_MAX
void contexts_init_compress(struct contexts *contexts, int level);
void *contexts_acquire(struct contexts *contexts);               // NULL with an error
void contexts_release(struct contexts *contexts, void *context); // NULL is fine
void contexts_free(struct contexts *contexts);

// Buffered reading from a pipe or file.
struct byte_input {
    const char *name;
    int fd;
    int wake;        // reading stops with an error when this descriptor is readable; or -1
    bool random;     // read with pread, up to `end`
    uint64_t offset; // of the next byte
    uint64_t end;
    size_t begin, fill; // the unread part of the buffer
    size_t frame_size;  // of the frame before: a guess at the next one's
    uint8_t *buffer, *allocation;
};
int byte_input_init(struct byte_input *input, const char *name, int fd);
void byte_input_free(struct byte_input *input);

// One frame, from its bytes in the input to its document.
struct frame {
    uint64_t offset;                   // in the input
    size_t size;                       // bytes in the input
    size_t content;                    // bytes of the document
    bool is_table;                     // a seek table: it has no document
    size_t room;                       // allocated for `bytes`
    uint8_t *bytes, *bytes_allocation; // as in the input; freed after decompression
    uint8_t *document;
    uint8_t *allocation; // holds the document, and room in front of it for a larger header
    size_t allocation_size;
    struct safetensors doc; // the parsed document
};
// Reads the magic number and the frame's header. 1, or 0 at the end of the input, or -1 with an
// error that has the input's name and the offset.
int frame_read_header(struct byte_input *input, struct frame *frame);
// Reads the rest. A frame over TSTREAM_LARGE is decompressed at once.
int frame_read_body(struct byte_input *input, struct frame *frame, struct contexts *contexts);
// Does nothing for a seek table or where frame_read_body has decompressed. Errors of this function
// and those below lack name and offset: the caller adds them.
int frame_decompress(struct frame *frame, struct contexts *contexts);
// Decompresses and parses the document, and checks the rules that all kinds of frames share.
int frame_decode(struct frame *frame, struct contexts *contexts);
void frame_free(struct frame *frame);

enum frame_kind { FRAME_BEGIN, FRAME_DATA, FRAME_END, FRAME_TABLE, FRAME_UNKNOWN };
enum frame_kind frame_kind(const struct frame *frame);
const char *frame_kind_name(enum frame_kind kind);
// The schema that a begin frame states; NULL with an error.
struct schema *frame_schema(const struct frame *frame);
// A data frame's records, which must begin with number `first` of the segment. The batch takes over
// the frame's document. NULL with an error.
struct batch *frame_batch(struct frame *frame, const struct schema *schema, uint64_t first);
// Checks an end frame against the records (n) of the data frames before it.
int frame_check_end(const struct frame *frame, const struct schema *schema, const int64_t *rows,
                    size_t n);
// The records (n) of each data frame as an end frame states them: little-endian I64, perhaps not
// aligned. NULL with an error.
const uint8_t *frame_end_rows(const struct frame *frame, const struct schema *schema, size_t n);

// A seek table's entry: bytes of a frame, and of its content.
struct seek_entry {
    uint32_t size, content;
};
// Bytes of the skippable frame that holds n entries.
size_t seek_table_size(size_t n);
// Builds that frame; *bytes is malloc'd.
int seek_table_build(const struct seek_entry *entries, size_t n, uint8_t **bytes, size_t *size);
// Entry i of the table whose magic number is at `bytes`.
struct seek_entry seek_table_entry(const uint8_t *bytes, size_t i);
// Checks that the frame is a table of these n entries; with entries NULL, of any n entries.
int seek_table_check(const struct frame *frame, const struct seek_entry *entries, size_t n);

// Builds the header of a document whose tensors have `rows` rows each. n_frames is the length of an
// end frame's own tensor, or NO_ROWS_TENSOR. *header is malloc'd; *size is a multiple of
// TSTREAM_ALIGNMENT.
#define NO_ROWS_TENSOR (-1)
int schema_build_header(const struct schema *schema, size_t rows, const json_t *metadata,
                        int64_t n_frames, uint8_t **header, size_t *size);
// An upper bound for the bytes of a data frame's header.
size_t schema_header_room(const struct schema *schema);
// As schema_add, but at the end: -1 with an error if the element size is larger than the one
// before.
int schema_append(struct schema *schema, const char *name, enum dtype dtype, const size_t *shape,
                  size_t rank);
// Parses a plain decimal number; false for anything else and for NULL.
bool text_to_u64(const char *text, uint64_t *value);

// Where a data frame lies in the input, and the numbers of its first record and of its segment's
// first record within the stream.
struct frame_place {
    uint64_t offset, first, segment_first;
    uint32_t size, content;
};
// As tstream_open, from a descriptor that stays open.
struct tstream_reader *tstream_open_input(const struct byte_input *input, size_t threads);
const struct frame_place *tstream_place(const struct tstream_reader *reader); // of the last batch

#endif
