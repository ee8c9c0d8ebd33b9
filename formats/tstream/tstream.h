// Tensor streams, as tstream(5) defines them. SPDX-License-Identifier: MIT
//
// Reading:
//     struct tstream_reader *in = tstream_open(path, threads);   // NULL: an error is set
//     const struct schema *schema = tstream_schema(in);
//     while ((rc = tstream_read(in, &batch)) > 0) { use(batch); batch_free(batch); }
//     if (rc < 0) ...; tstream_close(in);
// Writing:
//     struct tstream_writer *out = tstream_create(output, schema, threads, level);
//     struct batch *batch = batch_new(schema, rows); fill batch->data[i];
//     tstream_write(out, batch);              // takes the batch
//     tstream_finish(out) (commits the output), or tstream_abandon(out)
#ifndef DIT_TSTREAM_H
#define DIT_TSTREAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"
#include "lib/base/tensor.h"

#define SCHEMA_FIELDS_MAX   64
#define TSTREAM_CONTENT_MAX ((size_t)256 << 20) // bytes of one frame's document
#define TSTREAM_FRAME_AIM   ((size_t)2 << 20)   // the usual size, which writers aim at

// A tensor of the stream, of which each record holds one row. shape, rank and count are the row's.
struct field {
    char name[TENSOR_NAME_MAX + 1];
    enum dtype dtype;
    size_t rank; // 0 for a scalar such as a label
    size_t shape[TENSOR_RANK_MAX - 1];
    size_t count; // elements
    size_t size;  // bytes
};

// What a stream holds. Fields are sorted by falling element size, as in the documents; those of one
// size stand in the order in which they were added.
struct schema {
    size_t n_fields;
    struct field fields[SCHEMA_FIELDS_MAX];
    json_t *metadata; // object of strings: kind, count, classes, pg.0, ...; owned
};

// kind is "images" or "latents". NULL with an error.
struct schema *schema_new(const char *kind);
struct schema *schema_copy(const struct schema *schema);
void schema_free(struct schema *schema);
// Adds a tensor. -1 with an error if the name is bad or taken, or there are too many or too large
// tensors.
int schema_add(struct schema *schema, const char *name, enum dtype dtype, const size_t *shape,
               size_t rank);
int schema_remove(struct schema *schema, const char *name); // -1 without a message if it is missing
// Index of the tensor, or -1 without a message.
int schema_find(const struct schema *schema, const char *name);
// Index of the tensor. If it is missing or has another dtype or rank, -1 with an error that lists
// the tensors found.
int schema_expect(const struct schema *schema, const char *name, enum dtype dtype, size_t rank);
// The value of a metadata key, or NULL.
const char *schema_get(const struct schema *schema, const char *key);
// Sets the value of a metadata key; format NULL removes the key.
int schema_set(struct schema *schema, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// False unless the key's value is a plain decimal number.
bool schema_number(const struct schema *schema, const char *key, uint64_t *value);
// False unless the metadata states the number of records.
bool schema_count(const struct schema *schema, uint64_t *count);
size_t schema_record_size(const struct schema *schema); // bytes of one record, over all fields
size_t schema_rows_aim(const struct schema *schema);    // rows (>= 1) of a frame of the usual size
// Compares the fields (name, dtype, shape) and the metadata that says what the data means: all keys
// but count, pg.* and shard.*. -1 with an error that says what differs.
int schema_check_same(const struct schema *a, const struct schema *b);
// Appends a program's entry, "PROGRAM VERSION: ARGUMENTS", to the history as pg.N; NULL appends
// none.
int schema_add_provenance(struct schema *schema, const char *entry);

// Records: for each field, rows * field.size bytes in C order, aligned to the element size.
struct batch {
    size_t rows;
    uint64_t first; // index of the first record within the stream, counted over all segments
    uint8_t *data[SCHEMA_FIELDS_MAX];
    uint8_t *document; // private: the buffer that data points into
    size_t document_size;
};
// A batch to be filled. Its buffer is laid out as a document, so that writing copies nothing.
struct batch *batch_new(const struct schema *schema, size_t rows);
// Keeps the first `rows` records of a batch made by batch_new, to cut an unfilled tail.
int batch_truncate(const struct schema *schema, struct batch *batch, size_t rows);
void batch_free(struct batch *batch);

struct tstream_reader;
// Opens a stream and reads its begin frame; `threads` threads decompress ahead. path NULL or "-":
// standard input. NULL with an error: STATUS_NO_INPUT if it cannot be opened, STATUS_USAGE if it is
// a terminal, STATUS_DATA with the byte offset if it is not a stream.
struct tstream_reader *tstream_open(const char *path, size_t threads);
const struct schema *tstream_schema(const struct tstream_reader *reader);
const char *tstream_name(const struct tstream_reader *reader);
// 1 and a batch, which the caller frees; 0 at the end; -1 with an error (STATUS_DATA). The frames
// before a defect are returned first. All segments must have the schema of the first.
int tstream_read(struct tstream_reader *reader, struct batch **batch);
void tstream_close(struct tstream_reader *reader);

// What a reader has read so far, or what a file holds.
struct tstream_totals {
    uint64_t records, frames, segments; // frames: those with data
    uint64_t size;                      // bytes of the stream
    uint64_t content;                   // bytes of the documents in it
};
const struct tstream_totals *tstream_totals(const struct tstream_reader *reader);

struct tstream_writer;
// Starts a stream with its begin frame; `threads` threads compress at zstd's `level`. Owns `output`
// from now on, also when it fails. Copies the schema. NULL with an error.
struct tstream_writer *tstream_create(struct output *output, const struct schema *schema,
                                      size_t threads, int level);
// Writes a batch and frees it, also when it fails. A batch of 0 rows is not written.
int tstream_write(struct tstream_writer *writer, struct batch *batch);
// Writes the end frame and the seek table, and commits the output. Frees the writer, also when it
// fails.
int tstream_finish(struct tstream_writer *writer);
// Frees the writer and discards the output. The end frame is missing from what a pipe has received,
// so that nobody mistakes the stream for a complete one. NULL is fine.
void tstream_abandon(struct tstream_writer *writer);

// Random access to a regular file; all functions are thread-safe after opening.
struct tstream_file;
// Opens a file by its seek tables, or reads all of it where they are damaged. path NULL or "-":
// standard input. NULL with an error as of tstream_open.
struct tstream_file *tstream_file_open(const char *path);
const struct schema *tstream_file_schema(const struct tstream_file *file);
const char *tstream_file_name(const struct tstream_file *file);
uint64_t tstream_file_records(const struct tstream_file *file);
size_t tstream_file_frames(const struct tstream_file *file); // data frames, over all segments
// Index of the first record of a data frame; for frame = tstream_file_frames, the number of
// records.
uint64_t tstream_file_first(const struct tstream_file *file, size_t frame);
const struct tstream_totals *tstream_file_totals(const struct tstream_file *file);
int tstream_file_read(const struct tstream_file *file, size_t frame, struct batch **batch);
// A hash over the records, the content's size and zstd's checksum of each data frame. Cheap: reads
// 4 bytes a frame. -1 with an error.
int tstream_file_hash(const struct tstream_file *file, uint64_t *hash);
// Closes the descriptor; from now on each reading opens the file again by its name, which must
// still stand for the same file. For sets of more files than a process may have open.
void tstream_file_rest(struct tstream_file *file);
void tstream_file_close(struct tstream_file *file);

#endif
