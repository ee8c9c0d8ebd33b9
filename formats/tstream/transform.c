// Regroups the records of a stream for work in batches. Records go to `work` where they lie if
// enough of them lie together; others are staged. SPDX-License-Identifier: MIT
#include "formats/tstream/transform.h"

#include <string.h>

#include "lib/base/error.h"

struct transform {
    const char *name; // of the input
    struct tstream_writer *writer;
    const struct schema *in_schema, *out_schema;
    size_t n;
    int (*work)(void *user, struct batch *in, struct batch *out, size_t row);
    void *user;
    struct batch *staged; // gathers up to n records for work; staged->rows counts them
    struct batch *out;    // being filled, or NULL
    size_t out_rows, out_rows_max;
};

void batch_copy_rows(const struct schema *to_schema, struct batch *to, size_t to_row,
                     const struct schema *from_schema, const struct batch *from, size_t from_row,
                     size_t rows)
{
    for (size_t i = 0; i < to_schema->n_fields; i++) {
        const struct field *field = &to_schema->fields[i];
        int j = schema_find(from_schema, field->name);
        if (j >= 0)
            memcpy(to->data[i] + to_row * field->size, from->data[j] + from_row * field->size,
                   rows * field->size);
    }
}

static int write_out(struct transform *t)
{
    struct batch *out = t->out;
    size_t rows = t->out_rows;
    t->out = NULL;
    t->out_rows = 0;
    if (!out)
        return 0;
    if (rows < t->out_rows_max && batch_truncate(t->out_schema, out, rows) < 0) {
        batch_free(out);
        return -1;
    }
    return tstream_write(t->writer, out);
}

// Transforms at most n records into rows of the batch that is being filled.
static int work_on(struct transform *t, struct batch *in)
{
    if (!t->out && !(t->out = batch_new(t->out_schema, t->out_rows_max)))
        return -1;
    batch_copy_rows(t->out_schema, t->out, t->out_rows, t->in_schema, in, 0, in->rows);
    if (t->work(t->user, in, t->out, t->out_rows) < 0)
        return error_prefix("%s", t->name);
    t->out_rows += in->rows;
    return t->out_rows + t->n > t->out_rows_max ? write_out(t) : 0;
}

static int add_batch(struct transform *t, const struct batch *batch)
{
    struct batch *staged = t->staged;
    for (size_t row = 0; row < batch->rows;) {
        size_t left = batch->rows - row;
        if (staged->rows == 0 && left >= t->n) { // these need no staging
            struct batch part = {.rows = t->n, .first = batch->first + row};
            for (size_t i = 0; i < t->in_schema->n_fields; i++)
                part.data[i] = batch->data[i] + row * t->in_schema->fields[i].size;
            if (work_on(t, &part) < 0)
                return -1;
            row += t->n;
            continue;
        }
        size_t take = left < t->n - staged->rows ? left : t->n - staged->rows;
        if (staged->rows == 0)
            staged->first = batch->first + row;
        batch_copy_rows(t->in_schema, staged, staged->rows, t->in_schema, batch, row, take);
        staged->rows += take;
        row += take;
        if (staged->rows == t->n) {
            if (work_on(t, staged) < 0)
                return -1;
            staged->rows = 0;
        }
    }
    return 0;
}

static int transform_all(struct transform *t, struct tstream_reader *in)
{
    if (!(t->staged = batch_new(t->in_schema, t->n)))
        return -1;
    t->staged->rows = 0;
    struct batch *batch;
    int rc;
    while ((rc = tstream_read(in, &batch)) > 0) {
        rc = add_batch(t, batch);
        batch_free(batch);
        if (rc < 0)
            break;
    }
    if (rc == 0 && t->staged->rows)
        rc = work_on(t, t->staged);
    if (rc == 0)
        rc = write_out(t);
    batch_free(t->out);
    batch_free(t->staged);
    return rc;
}

int transform_stream(struct tstream_reader *in, struct tstream_writer *writer,
                     const struct schema *out_schema, size_t n,
                     int (*work)(void *user, struct batch *in, struct batch *out, size_t row),
                     void *user)
{
    size_t aim = schema_rows_aim(out_schema);
    struct transform t = {
        .name = tstream_name(in),
        .writer = writer,
        .in_schema = tstream_schema(in),
        .out_schema = out_schema,
        .n = n,
        .work = work,
        .user = user,
        .out_rows_max = aim < n ? n : aim / n * n,
    };
    if (transform_all(&t, in) < 0) {
        tstream_abandon(writer);
        return -1;
    }
    return tstream_finish(writer);
}
