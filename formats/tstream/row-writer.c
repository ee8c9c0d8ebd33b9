// Collects records into batches of the usual size, which it writes. SPDX-License-Identifier: MIT
#include "formats/tstream/row-writer.h"

uint8_t *row_writer_at(struct row_writer *w, int field)
{
    if (!w->batch && !(w->batch = batch_new(w->schema, schema_rows_aim(w->schema))))
        return NULL;
    return w->batch->data[field] + w->rows * w->schema->fields[field].size;
}

int row_writer_next(struct row_writer *w)
{
    return ++w->rows == schema_rows_aim(w->schema) ? row_writer_flush(w) : 0;
}

int row_writer_flush(struct row_writer *w)
{
    struct batch *batch = w->batch;
    size_t rows = w->rows;
    w->batch = NULL;
    w->rows = 0;
    if (!batch)
        return 0;
    if (batch_truncate(w->schema, batch, rows) < 0) {
        batch_free(batch);
        return -1;
    }
    return tstream_write(w->out, batch);
}
