// Makes one stream of another, in batches of a chosen size. SPDX-License-Identifier: MIT
#ifndef DIT_TRANSFORM_H
#define DIT_TRANSFORM_H

#include "formats/tstream/tstream.h"

// Copies rows from one batch to another, of every tensor that both schemas have.
void batch_copy_rows(const struct schema *to_schema, struct batch *to, size_t to_row,
                     const struct schema *from_schema, const struct batch *from, size_t from_row,
                     size_t rows);

// Reads all of `in` and calls `work` for batches of n records (fewer in the last one), however the
// input's frames divide them. Tensors that both schemas have are copied; `work` fills the new ones:
// for all records of its batch `in`, from row `row` of its batch `out` on. It may overwrite in's
// data. in->first counts from the start of the stream.
// Finishes `writer`, which was made with out_schema; abandons it if anything fails. `in` stays
// open. -1 with an error, also if `work` returns -1 with one.
int transform_stream(struct tstream_reader *in, struct tstream_writer *writer,
                     const struct schema *out_schema, size_t n,
                     int (*work)(void *user, struct batch *in, struct batch *out, size_t row),
                     void *user);

#endif
