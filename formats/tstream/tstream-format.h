// What the writer and the readers of streams share; private to formats/tstream-*.c.
// SPDX-License-Identifier: MIT
#ifndef DIT_TSTREAM_FORMAT_H
#define DIT_TSTREAM_FORMAT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/containers/safetensors.h"
#include "formats/tstream/tstream.h"
#include "lib/base/bytes.h"

#define TSTREAM_VERSION     "1"
#define TSTREAM_ROWS_NAME   "rows" // the end frame's own tensor
#define TSTREAM_HEADER_MAX  ((size_t)1 << 20)
#define TSTREAM_WINDOW_MAX  ((size_t)8 << 20)
#define TSTREAM_FRAMES_MAX  ((size_t)1 << 21) // data frames of a segment
#define TSTREAM_MAGIC       0xFD2FB528u       // of a zstd frame
#define TSTREAM_TABLE_MAGIC 0x184D2A5Eu       // of the skippable frame that holds a seek table
#define TSTREAM_TABLE_END   0x8F92EAB1u
#define TSTREAM_TABLE_FIXED ((size_t)9) // bytes of its content beside the entries: count, 0, end
// A frame with more content is decoded as it is read and compressed as it is written, so that its
// compressed form is never in memory.
#define TSTREAM_LARGE ((size_t)8 << 20)

// Bytes in memory, over all frames between input and user, or user and output.
struct budget {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    size_t used, limit;
    bool closed;
};
void budget_init(struct budget *budget, size_t threads);
void budget_free(struct budget *budget);
// Waits until `size` fits, or nothing else is there. -1, no message, after budget_close.
int budget_take(struct budget *budget, size_t size);
void budget_give(struct budget *budget, size_t size);
void budget_wait_empty(struct budget *budget);
void budget_close(struct budget *budget);
size_t frame_cost(size_t content); // of a frame, for the budget

// Compression contexts not in use, so that each thread finds one with its tables in place.
#define CONTEXTS_MAX 64
struct contexts {
    pthread_mutex_t lock;
    size_t n;
    void *idle[CONTEXTS_MAX];
};
void contexts_init(struct contexts *contexts);
void *contexts_take(struct contexts *contexts);              // NULL if none is idle
bool contexts_put(struct contexts *contexts, void *context); // false if there is no room
// Calls `drop` for each.
void contexts_free(struct contexts *contexts, size_t (*drop)(void *context));

// Bytes of a pipe or file, in order.
struct input {
    const char *name;
    int fd;
    int wake;        // a descriptor that becomes readable to stop the reading; or -1
    bool random;     // read with pread, up to `end`
    uint64_t offset; // of the next byte
    uint64_t end;
    size_t begin, fill; // what is left in the buffer
    size_t frame_size;  // of the frame before: a guess at the next one's
    uint8_t *buffer, *allocation;
};
int input_init(struct input *input, const char *name, int fd);
void input_free(struct input *input);

struct frame {
    uint64_t offset; // in the input
    size_t size;     // bytes in the input
    size_t content;  // bytes of the document
    bool table;      // a seek table: its bytes stay in `bytes`
    size_t room;
    uint8_t *bytes, *bytes_allocation; // as in the input, until decoded
    uint8_t *document;
    uint8_t *allocation; // where the document lies; with room in front for a larger header
    size_t allocation_size;
    struct safetensors doc; // parsed
};
// Reads magic and header. 1, 0 at the end of the input, -1 with an error that has name and offset.
int frame_take_header(struct input *input, struct frame *frame);
// Reads the rest, a large frame's into its document.
int frame_take_body(struct input *input, struct frame *frame, struct contexts *contexts);
// Nothing to do for a seek table or a large frame. Messages from here on have no name and offset.
int frame_decompress(struct frame *frame, struct contexts *contexts);
// Decompresses what is not decompressed yet, parses the document and checks what holds for every
// frame.
int frame_decode(struct frame *frame, struct contexts *contexts);
void frame_free(struct frame *frame);

enum frame_kind { FRAME_BEGIN, FRAME_DATA, FRAME_END, FRAME_TABLE, FRAME_UNKNOWN };
enum frame_kind frame_kind(const struct frame *frame);
const char *frame_kind_name(enum frame_kind kind);
struct schema *frame_schema(const struct frame *frame); // of a begin frame
// Of a data frame whose first record must be `first` of its segment. Takes the document.
struct batch *frame_batch(struct frame *frame, const struct schema *schema, uint64_t first);
// Of an end frame: rows and n of the data frames before it must be as given.
int frame_check_end(const struct frame *frame, const struct schema *schema, const int64_t *rows,
                    size_t n);
// The rows of n frames, as an end frame states them; they need no alignment. NULL with an error.
const uint8_t *frame_end_rows(const struct frame *frame, const struct schema *schema, size_t n);

// Entries of a seek table.
struct seek_entry {
    uint32_t size, content;
};
// The bytes of a skippable frame that holds them; malloc'd.
int seek_table_build(const struct seek_entry *entries, size_t n, uint8_t **bytes, size_t *size);
struct seek_entry seek_table_entry(const uint8_t *bytes, size_t i); // bytes: from the magic on
// entries NULL: its form alone.
int seek_table_check(const struct frame *frame, const struct seek_entry *entries, size_t n);

// Header of a frame's document: all tensors with `rows` rows; with n_rows >= 0 also the end frame's
// tensor of that many. *size is a multiple of 64.
int schema_build_header(const struct schema *schema, size_t rows, const json_t *metadata,
                        int64_t n_rows, uint8_t **header, size_t *size);
// A bound for the header of a data frame.
size_t schema_header_room(const struct schema *schema);
int schema_append(struct schema *schema, const char *name, enum dtype dtype, const size_t *shape,
                  size_t rank);                      // as schema_add, at the end
bool text_to_u64(const char *text, uint64_t *value); // plain decimal; false for NULL

// Where a data frame lies, and its first record within the stream and within its segment.
struct frame_place {
    uint64_t offset, first, segment_first;
    uint32_t size, content;
};
// Reads from a descriptor, which it does not close.
struct tstream_reader *tstream_open_input(const struct input *input, size_t threads);
const struct frame_place *tstream_place(const struct tstream_reader *reader); // of the last batch

#endif
