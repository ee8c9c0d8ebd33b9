// Streams to one stream: joined, cut, with fewer tensors. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/tstream/tstream.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define AS_THEY_COME (-1) // --rechunk was not given

// Records from `from` to before `to`, counted over all inputs.
struct range {
    uint64_t from, to;
};

struct cat {
    const char *tensors; // the names to keep, or NULL
    int64_t rechunk;
    struct range range;
    uint64_t position;     // records read
    struct schema *input;  // the first input's
    struct schema *schema; // of the output
    struct tstream_writer *out;
    int fields[SCHEMA_FIELDS_MAX]; // of the input, for each of the output
    struct batch *pending;         // filled in part
    size_t filled;
};

// "FROM:TO", either may be left out.
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

static bool is_regular(const char *path)
{
    struct stat st;
    bool standard = !path || !strcmp(path, "-");
    return (standard ? fstat(0, &st) : stat(path, &st)) == 0 && S_ISREG(st.st_mode);
}

// The records of all inputs; -1 if one is not a whole stream in a regular file.
static int count_records(char **inputs, uint64_t *total)
{
    size_t i = 0;
    *total = 0;
    do {
        if (!is_regular(inputs[i]))
            return error_set(STATUS_NO_INPUT,
                             "%s: expected a regular file, whose records can be "
                             "counted",
                             inputs[i] ? inputs[i] : "standard input");
        struct tstream_file *file = tstream_file_open(inputs[i]);
        if (!file)
            return -1;
        *total += tstream_file_records(file);
        tstream_file_close(file);
    } while (inputs[i] && inputs[++i]);
    return 0;
}

static struct range part_of(struct range range, const struct part *part, uint64_t total)
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
    if (!cat->input || !cat->schema || (cat->tensors && keep_tensors(cat->schema, cat->tensors)))
        return -1;
    for (size_t i = 0; i < cat->schema->n_fields; i++)
        cat->fields[i] = schema_find(input, cat->schema->fields[i].name);
    schema_set(cat->schema, "count", NULL);
    if (counted && schema_set(cat->schema, "count", "%" PRIu64, cat->range.to - cat->range.from))
        return -1;
    struct output *output = NULL;
    if (schema_add_provenance(cat->schema, tool_provenance()) ||
        !(output = output_open(tool.output)))
        return -1;
    cat->out = tstream_create(output, cat->schema, (size_t)tool.threads, tool_level(output));
    return cat->out ? 0 : -1;
}

static int write_pending(struct cat *cat)
{
    struct batch *batch = cat->pending;
    cat->pending = NULL;
    if (!batch)
        return 0;
    if (batch_truncate(cat->schema, batch, cat->filled))
        return -1;
    return tstream_write(cat->out, batch);
}

// Copies records from `row` to before `end` of the batch.
static int copy_records(struct cat *cat, const struct batch *batch, size_t row, size_t end)
{
    size_t rows = end - row;
    if (cat->rechunk != AS_THEY_COME)
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
        if (cat->filled == rows && write_pending(cat))
            return -1;
    }
    return 0;
}

// The records of the batch that are in the range. Takes the batch.
static int write_batch(struct cat *cat, struct batch *batch)
{
    const struct range *range = &cat->range;
    uint64_t first = cat->position, last = first + batch->rows; // last: the one after it
    uint64_t from = first < range->from ? range->from : first;
    uint64_t to = last < range->to ? last : range->to;
    int rc = 0;
    cat->position = last;
    progress_add(batch->rows);
    if (from == first && to == last && cat->rechunk == AS_THEY_COME && !cat->tensors)
        return tstream_write(cat->out, batch);
    if (from < to)
        rc = copy_records(cat, batch, (size_t)(from - first), (size_t)(to - first));
    batch_free(batch);
    return rc;
}

static int read_stream(struct cat *cat, const char *path, bool counted)
{
    struct tstream_reader *in = tstream_open(path, (size_t)tool.threads);
    if (!in)
        return -1;
    int rc = 1;
    if (!cat->out)
        rc = start_output(cat, tstream_schema(in), counted) ? -1 : 1;
    else if (schema_check_same(cat->input, tstream_schema(in)))
        rc = error_prefix("%s: not the same as the first input", tstream_name(in));
    struct batch *batch;
    while (rc > 0 && cat->position < cat->range.to && (rc = tstream_read(in, &batch)) > 0)
        rc = write_batch(cat, batch) ? -1 : 1;
    tstream_close(in);
    return rc < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct cat cat = {.rechunk = AS_THEY_COME, .range = {0, UINT64_MAX}};
    struct part part = {0, 1};
    const char *records = NULL;
    const struct option options[] = {
        {"tensors", 't', OPTION_STRING, &cat.tensors, "NAME,...", "keep only these tensors", 0, 0,
         NULL},
        {"records", 'r', OPTION_STRING, &records, "FROM:TO",
         "only records FROM to TO - 1; either may be left out", 0, 0, NULL},
        {"part", 0, OPTION_PART, &part, "I/N", "only part I of N equal ones, 1 to N", 0, 0, NULL},
        {"rechunk", 0, OPTION_INT, &cat.rechunk, "N",
         "records in a frame; 0: what makes 2 MiB (default: as they come)", 0, 1 << 28, NULL},
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_THREADS,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **inputs =
        tool_start(argc, argv,
                   &(struct tool_info){"tstream-cat", "[OPTION]... [FILE]...",
                                       "Join tensor streams, or take parts of them.", options});
    if (records)
        cat.range = parse_range(records);
    uint64_t total;
    bool counted = !count_records(inputs, &total);
    if (part.count > 1 && !counted)
        tool_fail();
    if (counted)
        cat.range = part_of(cat.range, &part, total);

    progress_start("records", counted ? cat.range.to : 0);
    size_t i = 0;
    do {
        if (read_stream(&cat, inputs[i], counted))
            tool_fail();
    } while (inputs[i] && inputs[++i]);
    progress_finish();
    if (write_pending(&cat) || tstream_finish(cat.out))
        tool_fail();
    schema_free(cat.input);
    schema_free(cat.schema);
    return tool_finish();
}
