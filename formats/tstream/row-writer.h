// Records, made one by one, into the frames of a stream. SPDX-License-Identifier: MIT
#ifndef DIT_ROW_WRITER_H
#define DIT_ROW_WRITER_H

#include "formats/tstream/tstream.h"

struct row_writer {
    struct tstream_writer *out;  // the caller's
    const struct schema *schema; // the caller's
    struct batch *batch;         // being filled, or NULL
    size_t rows;                 // of it that are complete
};

// Where the next record's value of tensor `field` goes. NULL with an error.
uint8_t *row_writer_at(struct row_writer *writer, int field);
// The next record is complete. -1 with an error.
int row_writer_next(struct row_writer *writer);
// Writes what is left. -1 with an error.
int row_writer_flush(struct row_writer *writer);

#endif
