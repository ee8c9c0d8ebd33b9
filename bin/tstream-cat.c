// tstream-cat: streams -> one stream, of all or some of their records and tensors.
// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tstream/tstream.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define KEEP_FRAMES (-1) // --rechunk was not given

// The records from .. to - 1, counted over all inputs.
struct range {
    uint64_t from, to;
};

struct cat {
    const char *tensors; // the names to keep, or NULL
    int64_t rechunk;
    struct range range;
    uint64_t position;     // records read
    struct output *output; // taken by out
    struct schema *input;  // of the first input
    struct schema *schema; // of the output
    struct tstream_writer *out;
    int fields[SCHEMA_FIELDS_MAX]; // by field of the output: its index in the input
    struct batch *pending;         // the next frame, of which `filled` rows are set
    size_t filled;
};

// Parses "FROM:TO", of which either may be omitted.
static struct range parse_range(const char *text)
{
    struct range range = {0, UINT64_MAX};
    const char *colon = strchr(text, ':');
    bool good = colon && strspn(text, "0123456789") == (size_t)(colon - text) &&
                strspn(colon + 1, "0123456789") == strlen(colon + 1);
    if (good && colon > text)
        range.from = strtoull(text, NULL, 10);
    if (good && colon[1])
        range.to = strtoull(colon + 1, NULL, 10);
    if (!good || range.from > range.to)
        tool_usage_error("option --records: expected FROM:TO, found '%s'", text);
    return range;
}

static int keep_tensors(struct schema *schema, const char *list)
{
    bool keep[SCHEMA_FIELDS_MAX] = {false};
    char *copy = mem_strdup(list), *rest = copy;
    int rc = copy ? 0 : -1;
    for (char *name; rc == 0 && (name = strsep(&rest, ","));) {
        int i = schema_find(schema, name);
        if (i < 0)
            rc = error_set(STATUS_DATA, "--tensors: the input has no tensor \"%s\"", name);
        else
            keep[i] = true;
    }
    free(copy);
    for (size_t i = schema->n_fields; i-- && rc == 0;)
        if (!keep[i])
            schema_remove(schema, schema->fields[i].name);
    return rc;
}

// Counts the records of all inputs. -1 with an error if one is not a complete stream in a regular
// file.
static int count_records(char **inputs, uint64_t *total)
{
    *total = 0;
    for (char **input = inputs; *input; input++) {
        if (!file_is_regular(*input))
            return error_set(STATUS_NO_INPUT,
                             "%s: expected a regular file, whose records can be counted",
                             file_name(*input));
        struct tstream_file *file = tstream_file_open(*input);
        if (!file)
            return -1;
        *total += tstream_file_records(file);
        tstream_file_close(file);
    }
    return 0;
}

static struct range range_part(struct range range, const struct part *part, uint64_t total)
{
    uint64_t to = range.to < total ? range.to : total, from = range.from < to ? range.from : to;
    unsigned __int128 n = to - from;
    return (struct range){from + (uint64_t)(n * part->index / part->count),
                          from + (uint64_t)(n * (part->index + 1) / part->count)};
}

static int start_output(struct cat *cat, const struct schema *input, bool counted)
{
    cat->input = schema_copy(input);
    cat->schema = schema_copy(input);
    if (!cat->input || !cat->schema ||
        (cat->tensors && keep_tensors(cat->schema, cat->tensors) < 0))
        return -1;
    for (size_t i = 0; i < cat->schema->n_fields; i++)
        cat->fields[i] = schema_find(input, cat->schema->fields[i].name);
    schema_set(cat->schema, "count", NULL);
    if (counted &&
        schema_set(cat->schema, "count", "%" PRIu64, cat->range.to - cat->range.from) < 0)
        return -1;
    if (schema_add_provenance(cat->schema, tool_provenance()) < 0)
        return -1;
    cat->out =
        tstream_create(cat->output, cat->schema, (size_t)tool.threads, tool_level(cat->output));
    return cat->out ? 0 : -1;
}

static int write_pending(struct cat *cat)
{
    struct batch *batch = cat->pending;
    cat->pending = NULL;
    if (!batch)
        return 0;
    if (batch_truncate(cat->schema, batch, cat->filled) < 0)
        return -1;
    return tstream_write(cat->out, batch);
}

// Copies records row .. end - 1 of the batch.
static int copy_records(struct cat *cat, const struct batch *batch, size_t row, size_t end)
{
    size_t rows = end - row;
    if (cat->rechunk != KEEP_FRAMES)
        rows = cat->rechunk ? (size_t)cat->rechunk : schema_rows_aim(cat->schema);
    while (row < end) {
        if (!cat->pending) {
            cat->filled = 0;
            if (!(cat->pending = batch_new(cat->schema, rows)))
                return -1;
        }
        size_t n = rows - cat->filled < end - row ? rows - cat->filled : end - row;
        for (size_t i = 0; i < cat->schema->n_fields; i++) {
            size_t size = cat->schema->fields[i].size;
            memcpy(cat->pending->data[i] + cat->filled * size,
                   batch->data[cat->fields[i]] + row * size, n * size);
        }
        row += n;
        cat->filled += n;
        if (cat->filled == rows && write_pending(cat) < 0)
            return -1;
    }
    return 0;
}

// Writes the records of the batch that are in the range. Takes the batch.
static int write_batch(struct cat *cat, struct batch *batch)
{
    const struct range *range = &cat->range;
    uint64_t first = cat->position, end = first + batch->rows;
    uint64_t from = first < range->from ? range->from : first;
    uint64_t to = end < range->to ? end : range->to;
    int rc = 0;
    cat->position = end;
    progress_add(batch->rows);
    if (from == first && to == end && cat->rechunk == KEEP_FRAMES && !cat->tensors)
        return tstream_write(cat->out, batch);
    if (from < to)
        rc = copy_records(cat, batch, (size_t)(from - first), (size_t)(to - first));
    batch_free(batch);
    return rc;
}

static int cat_stream(struct cat *cat, const char *path, bool counted)
{
    struct tstream_reader *in = tstream_open(path, (size_t)tool.threads);
    if (!in)
        return -1;
    int rc = 1;
    if (!cat->out)
        rc = start_output(cat, tstream_schema(in), counted) < 0 ? -1 : 1;
    else if (schema_check_same(cat->input, tstream_schema(in)) < 0)
        rc = error_prefix("%s: differs from the first input", tstream_name(in));
    struct batch *batch;
    while (rc > 0 && cat->position < cat->range.to && (rc = tstream_read(in, &batch)) > 0)
        rc = write_batch(cat, batch) < 0 ? -1 : 1;
    tstream_close(in);
    return rc < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct cat cat = {.rechunk = KEEP_FRAMES, .range = {0, UINT64_MAX}};
    struct part part = {0, 1};
    const char *records = NULL;
    const struct option options[] = {
        OPTION_STRING("tensors", 't', &cat.tensors, "NAME,...", "keep only these tensors"),
        OPTION_STRING("records", 'r', &records, "FROM:TO",
                      "keep only records FROM to TO - 1; either number may be omitted"),
        OPTION_PART("part", 0, &part, "keep only the I-th of N equal parts of the records"),
        OPTION_INT("rechunk", 0, &cat.rechunk, 0, 1 << 28,
                   "records in a frame, or 0 for frames of 2 MiB (default: as in the input)"),
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_THREADS,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands =
        tool_start(argc, argv,
                   &(struct tool_info){"tstream-cat", "[OPTION]... [FILE]...",
                                       "Join tensor streams, or take parts of them.", options});
    if (records)
        cat.range = parse_range(records);
    if (!(cat.output = output_open(tool.output)))
        tool_fail();
    char **inputs = tool_inputs(operands);
    uint64_t total;
    bool counted = count_records(inputs, &total) == 0;
    if (!counted && (part.count > 1 || error_status() == STATUS_INTERNAL))
        tool_fail();
    if (counted)
        cat.range = range_part(cat.range, &part, total);

    progress_start("records", counted ? cat.range.to : 0);
    for (; *inputs; inputs++)
        tool_check(cat_stream(&cat, *inputs, counted));
    progress_finish();
    tool_check(write_pending(&cat));
    tool_check(tstream_finish(cat.out));
    schema_free(cat.input);
    schema_free(cat.schema);
    return tool_finish();
}
