// From one stream to another, in batches of a chosen size. SPDX-License-Identifier: MIT
#ifndef DIT_TRANSFORM_H
#define DIT_TRANSFORM_H

#include "formats/tstream/tstream.h"

// Copies rows of every tensor that both schemas have.
void batch_copy_rows(const struct schema *to_schema, struct batch *to, size_t to_row,
                     const struct schema *from_schema, const struct batch *from, size_t from_row,
                     size_t rows);

// Reads all of `in`, hands it to `work` by `n` records (less at the end) whatever its frames hold,
// and writes what comes of it; tensors that both schemas have are copied.
// work fills the new tensors of in->rows records, in rows row, row + 1, ... of `out`; in->first
// counts from the stream's start, and in's data may be overwritten.
// Takes `writer`, made with out_schema. -1 with an error, also when `work` returns it; the writer
// is then abandoned. `in` stays open.
int transform_stream(struct tstream_reader *in, struct tstream_writer *writer,
                     const struct schema *out_schema, size_t n,
                     int (*work)(void *user, struct batch *in, struct batch *out, size_t row),
                     void *user);

#endif
