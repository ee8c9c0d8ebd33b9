// Writes records to a stream one at a time. SPDX-License-Identifier: MIT
//
//     struct row_writer writer = {.out = out, .schema = schema};
//     uint8_t *to = row_writer_at(&writer, field); fill it, for each field;
//     row_writer_next(&writer); ...; row_writer_flush(&writer);
#ifndef DIT_ROW_WRITER_H
#define DIT_ROW_WRITER_H

#include "formats/tstream/tstream.h"

struct row_writer {
    struct tstream_writer *out;  // the caller's
    const struct schema *schema; // the caller's
    struct batch *batch;         // being filled, or NULL
    size_t rows;                 // complete records in the batch
};

// Where to write the next record's value of tensor `field`. NULL with an error.
uint8_t *row_writer_at(struct row_writer *writer, int field);
// Ends the record; writes the batch if it is full. -1 with an error.
int row_writer_next(struct row_writer *writer);
// Writes the records that remain. -1 with an error.
int row_writer_flush(struct row_writer *writer);

#endif
