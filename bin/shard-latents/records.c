// Shuffles records, and writes them to shards or to the file of those held out.
// SPDX-License-Identifier: MIT
#include "bin/shard-latents/records.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/tool/tool.h"

static int add_record(struct records *all, const struct batch *batch, size_t row)
{
    uint8_t *const record = shuffle_add(all->shuffle), *to = record;
    if (!record)
        return -1;
    for (size_t i = 0; i < all->schema->n_fields; i++) {
        const size_t size = all->schema->fields[i].size;
        memcpy(to, batch->data[i] + row * size, size);
        all->hash = hash_bytes(all->hash, to, size);
        to += size;
    }
    return all->holds_out ? hold_out_add(&all->held, hold_out_key(&all->held, all->schema, record))
                          : 0;
}

int records_add(struct records *all, const char *path, uint64_t memory, const char *folder)
{
    struct tstream_reader *in = tstream_open(path, tool.threads);
    if (!in)
        return -1;
    const struct schema *found = tstream_schema(in);
    int rc = 0;
    if (!all->schema) {
        const size_t size = schema_record_size(found);
        all->schema = schema_copy(found);
        all->shuffle = all->schema ? shuffle_new(size, memory, tool.seed, folder) : NULL;
        rc = all->shuffle ? 0 : -1;
    } else if (schema_check_same(all->schema, found) < 0) {
        rc = error_prefix("%s", tstream_name(in));
    }
    struct batch *batch;
    while (rc == 0 && (rc = tstream_read(in, &batch)) > 0) {
        rc = 0;
        for (size_t row = 0; row < batch->rows && rc == 0; row++)
            rc = add_record(all, batch, row);
        progress_add(batch->rows);
        batch_free(batch);
    }
    tstream_close(in);
    return rc;
}

int records_hold_out(struct records *all, const char *path)
{
    all->held_schema = schema_copy(all->schema);
    if (!all->held_schema ||
        schema_set(all->held_schema, "count", "%llu", (unsigned long long)all->held.chosen) < 0)
        return -1;
    struct output *output = output_open(path);
    struct tstream_writer *out =
        output ? tstream_create(output, all->held_schema, tool.threads, tool_level(output)) : NULL;
    all->held_rows = (struct row_writer){.out = out, .schema = all->held_schema};
    return out ? 0 : -1;
}

static int hold_out_record(struct records *all, const uint8_t *record)
{
    for (size_t i = 0; i < all->schema->n_fields; i++) {
        const size_t size = all->schema->fields[i].size;
        uint8_t *to = row_writer_at(&all->held_rows, (int)i);
        if (!to)
            return -1;
        memcpy(to, record, size);
        record += size;
    }
    progress_add(1);
    return row_writer_next(&all->held_rows);
}

// Gets the next record that goes to a shard, and writes those before it that are held out. 1, 0 at
// the end, -1 with an error.
static int next_record(struct records *all, const uint8_t **record)
{
    const void *next;
    int rc;
    while ((rc = shuffle_next(all->shuffle, &next)) > 0) {
        *record = next;
        if (!all->held_schema ||
            !hold_out_has(&all->held, hold_out_key(&all->held, all->schema, next)))
            return 1;
        if (hold_out_record(all, next) < 0)
            return -1;
    }
    return rc;
}

int records_write_shard(struct records *all, const char *path, const struct shard *shard)
{
    struct schema *schema = all->schema;
    uint64_t records = shard->records;
    if (schema_set(schema, "count", "%llu", (unsigned long long)records) < 0 ||
        shard_mark(schema, shard) < 0)
        return -1;
    struct output *output = output_open(path);
    struct tstream_writer *out =
        output ? tstream_create(output, schema, tool.threads, tool_level(output)) : NULL;
    int rc = out ? 0 : -1;
    for (size_t aim = schema_rows_aim(schema), n; records && rc == 0; records -= n) {
        n = records < aim ? records : aim;
        struct batch *batch = batch_new(schema, n);
        rc = batch ? 0 : -1;
        for (size_t row = 0; row < n && rc == 0; row++) {
            const uint8_t *from = NULL;
            rc = next_record(all, &from) > 0 ? 0 : -1;
            for (size_t i = 0; i < schema->n_fields && rc == 0; i++) {
                size_t size = schema->fields[i].size;
                memcpy(batch->data[i] + row * size, from, size);
                from += size;
            }
        }
        if (rc == 0)
            rc = tstream_write(out, batch);
        else
            batch_free(batch);
        progress_add(n);
    }
    if (rc == 0)
        return tstream_finish(out);
    tstream_abandon(out);
    return -1;
}

int records_finish(struct records *all)
{
    const uint8_t *record;
    if (!all->held_schema)
        return 0;
    if (next_record(all, &record) < 0 || row_writer_flush(&all->held_rows) < 0)
        return -1;
    return tstream_finish(all->held_rows.out);
}

void records_free(struct records *all)
{
    shuffle_free(all->shuffle);
    schema_free(all->schema);
    schema_free(all->held_schema);
    hold_out_free(&all->held);
}
