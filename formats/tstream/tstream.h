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
#define TSTREAM_FRAME_AIM   ((size_t)2 << 20)   // what writers aim at

// One tensor of a record. shape and count leave out the rows.
struct field {
    char name[TENSOR_NAME_MAX + 1];
    enum dtype dtype;
    size_t rank; // of one record: 0 for a scalar such as a label
    size_t shape[TENSOR_RANK_MAX - 1];
    size_t count; // elements of one record
    size_t size;  // bytes of one record
};

// What a stream holds. Fields are in the order of the document: by falling element size, and as
// added within one size.
struct schema {
    size_t n_fields;
    struct field fields[SCHEMA_FIELDS_MAX];
    json_t *metadata; // object of strings: kind, count, classes, pg.0, ...; owned
};

// kind is "images" or "latents".
struct schema *schema_new(const char *kind);
struct schema *schema_copy(const struct schema *schema);
void schema_free(struct schema *schema);
// Adds a tensor at its place. -1 with an error: bad name, duplicate, too many, too large.
int schema_add(struct schema *schema, const char *name, enum dtype dtype, const size_t *shape,
               size_t rank);
int schema_remove(struct schema *schema, const char *name); // -1, no message, if there is none
// Index of the tensor, or -1 (no message).
int schema_find(const struct schema *schema, const char *name);
// As schema_find, with an error that names what is there if it is missing or has another dtype or
// rank.
int schema_expect(const struct schema *schema, const char *name, enum dtype dtype, size_t rank);
// The value or NULL; set with NULL removes.
const char *schema_get(const struct schema *schema, const char *key);
int schema_set(struct schema *schema, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The value of a key if it is a plain decimal number; false if not.
bool schema_number(const struct schema *schema, const char *key, uint64_t *value);
// The count of records if the metadata states it; false if not.
bool schema_count(const struct schema *schema, uint64_t *count);
size_t schema_record_size(const struct schema *schema); // bytes of one record of all fields
size_t schema_rows_aim(const struct schema *schema); // rows for a frame of TSTREAM_FRAME_AIM, >= 1
// Same fields (name, dtype, shape) and the same value of every metadata key that says what the data
// means (all but count, pg.*, shard.*); else -1 with an error that says what differs.
int schema_check_same(const struct schema *a, const struct schema *b);
// Appends a program's entry, "PROGRAM VERSION: ARGUMENTS", to the chain as pg.N; NULL appends none.
int schema_add_provenance(struct schema *schema, const char *entry);

// N records: for each field, rows * field.size bytes in C order, aligned to its element size.
struct batch {
    size_t rows;
    uint64_t first; // index of the first record within the stream (over all its segments)
    uint8_t *data[SCHEMA_FIELDS_MAX];
    uint8_t *document; // private: the buffer that data points into
    size_t document_size;
};
// A batch to fill; its buffer is the document itself, so that writing copies nothing.
struct batch *batch_new(const struct schema *schema, size_t rows);
// Cuts an unfilled tail: keeps the first `rows` records of a batch made by batch_new.
int batch_truncate(const struct schema *schema, struct batch *batch, size_t rows);
void batch_free(struct batch *batch);

struct tstream_reader;
// path NULL or "-": standard input (refused if a terminal). threads decompress ahead.
// Reads the begin frame. NULL with an error: 66 can't open, 65 not a stream (the message has the
// byte offset).
struct tstream_reader *tstream_open(const char *path, size_t threads);
const struct schema *tstream_schema(const struct tstream_reader *reader);
const char *tstream_name(const struct tstream_reader *reader);
// 1 and a batch (the caller's, to be freed), 0 at the end, -1 with an error (65). Frames before a
// defect are handed on first. A segment after the first must have the same schema.
int tstream_read(struct tstream_reader *reader, struct batch **batch);
uint64_t tstream_offset(const struct tstream_reader *reader); // of the frame read last, in bytes
void tstream_close(struct tstream_reader *reader);

// What was read so far (a reader), or what there is (a file).
struct tstream_totals {
    uint64_t records, frames, segments; // frames: those with data
    uint64_t size;                      // bytes of the stream
    uint64_t content;                   // bytes of the documents in it
};
const struct tstream_totals *tstream_totals(const struct tstream_reader *reader);

struct tstream_writer;
// Writes the begin frame. Takes `output` (also when it fails). The schema is copied.
// level: zstd's.
struct tstream_writer *tstream_create(struct output *output, const struct schema *schema,
                                      size_t threads, int level);
// Takes the batch, sets its `first`. A batch of 0 rows is freed and not written.
int tstream_write(struct tstream_writer *writer, struct batch *batch);
// End frame, seek table, output_commit. Frees the writer, also when it fails.
int tstream_finish(struct tstream_writer *writer);
// Ends without an end frame, so that nobody takes the stream for complete. NULL is fine.
void tstream_abandon(struct tstream_writer *writer);

// Random access to a regular file; all functions are thread-safe after opening.
struct tstream_file;
struct tstream_file *tstream_file_open(const char *path); // by the seek tables, else by a scan
const struct schema *tstream_file_schema(const struct tstream_file *file);
const char *tstream_file_name(const struct tstream_file *file);
uint64_t tstream_file_records(const struct tstream_file *file);
size_t tstream_file_frames(const struct tstream_file *file); // data frames, over all segments
// Index of the first record of data frame i, i <= frames (records at i = frames).
uint64_t tstream_file_first(const struct tstream_file *file, size_t frame);
const struct tstream_totals *tstream_file_totals(const struct tstream_file *file);
int tstream_file_read(const struct tstream_file *file, size_t frame, struct batch **batch);
// A hash of the data frames: the number of records, the size and the checksum of each. What it
// takes is a read of 4 bytes a frame. -1 with an error.
int tstream_file_hash(const struct tstream_file *file, uint64_t *hash);
void tstream_file_close(struct tstream_file *file);

#endif
