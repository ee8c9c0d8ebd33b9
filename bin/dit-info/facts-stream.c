// What a tensor stream holds: by the tables at its end, or by reading it.
// SPDX-License-Identifier: MIT
#include <string.h>

#include "bin/dit-info/facts.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/tool/tool.h"

static bool is_stream_format(const char *key)
{
    return strcmp(key, "format") == 0 || strcmp(key, "version") == 0 || strcmp(key, "kind") == 0;
}

static json_t *describe_stream(const struct schema *schema, const struct tstream_totals *totals,
                               bool checked)
{
    json_t *tensors = json_array();
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct field *field = &schema->fields[i];
        json_array_append_new(tensors,
                              facts_tensor(field->name, field->dtype, field->shape, field->rank));
    }
    json_t *facts =
        json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I}", "kind", schema_get(schema, "kind"),
                  "tensors", tensors, "records", (json_int_t)totals->records, "frames",
                  (json_int_t)totals->frames, "segments", (json_int_t)totals->segments, "bytes",
                  (json_int_t)totals->size, "bytes_raw", (json_int_t)totals->content);
    facts_add_metadata(facts, schema->metadata, is_stream_format);
    json_object_set_new(facts, "checked", json_boolean(checked));
    return facts;
}

static json_t *describe_by_reading(const char *path)
{
    struct tstream_reader *in = tstream_open(path, (size_t)tool.threads);
    struct batch *batch;
    int rc = in ? 1 : -1;
    while (rc > 0 && (rc = tstream_read(in, &batch)) > 0) {
        progress_add(batch->rows);
        batch_free(batch);
    }
    json_t *facts = rc == 0 ? describe_stream(tstream_schema(in), tstream_totals(in), true) : NULL;
    tstream_close(in);
    return facts;
}

static json_t *describe_by_tables(const char *path)
{
    struct tstream_file *file = tstream_file_open(path);
    json_t *facts =
        file ? describe_stream(tstream_file_schema(file), tstream_file_totals(file), false) : NULL;
    tstream_file_close(file);
    return facts;
}

json_t *facts_of_stream(const char *path, bool check)
{
    return check || !file_is_regular(path) ? describe_by_reading(path) : describe_by_tables(path);
}
