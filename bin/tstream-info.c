// tstream-info: streams -> a description of what they hold. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tstream/tstream.h"
#include "lib/base/mem.h"
#include "lib/base/printable.h"
#include "lib/tool/tool.h"

#define VALUE_MAX 240 // bytes of a metadata value in the text

struct report {
    const char *name;
    const struct schema *schema;
    struct tstream_totals totals;
    bool checked;
};

// Entry n of the history, or NULL.
static const char *history(const struct schema *schema, size_t n)
{
    char key[32];
    snprintf(key, sizeof key, "pg.%zu", n);
    return schema_get(schema, key);
}

static bool is_shown(const char *key)
{
    return strcmp(key, "format") != 0 && strcmp(key, "version") != 0 && strcmp(key, "kind") != 0 &&
           strncmp(key, "pg.", 3) != 0;
}

// Prints a text from a file, or its name, so that it can't drive a terminal.
static void put(FILE *out, const char *text, size_t size, int width)
{
    char *shown = mem_printf("%.*s", (int)size, text);
    if (!shown)
        tool_fail();
    shown[make_printable(shown, strlen(shown))] = 0;
    fprintf(out, "%-*s", width, shown);
    free(shown);
}

// Prints the value, cut to VALUE_MAX bytes.
static void print_value(FILE *out, const char *key, const char *value)
{
    size_t length = strlen(value), n = length < VALUE_MAX ? length : VALUE_MAX;
    while (n < length && n && (value[n] & 0xC0) == 0x80) // don't cut within a UTF-8 character
        n--;
    fputs("  ", out);
    put(out, key, strlen(key), 14);
    fputc(' ', out);
    put(out, value, n, 0);
    if (n < length)
        fprintf(out, "... (%zu bytes)", length);
    fputc('\n', out);
}

static void print_text(FILE *out, const struct report *report)
{
    const struct schema *schema = report->schema;
    const struct tstream_totals *totals = &report->totals;
    const char *key, *entry;
    json_t *value;
    const char *kind = schema_get(schema, "kind");
    put(out, report->name, strlen(report->name), 0);
    fputs(": ", out);
    put(out, kind, strlen(kind), 0);
    fputc('\n', out);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct field *field = &schema->fields[i];
        char shape[128];
        fprintf(out, "  %-14s ", i ? "" : "tensors");
        put(out, field->name, strlen(field->name), 0);
        fprintf(out, " %s %s\n", dtype_name(field->dtype),
                shape_text(field->shape, field->rank, shape, sizeof shape));
    }
    fprintf(out, "  %-14s %" PRIu64 "\n", "records", totals->records);
    fprintf(out, "  %-14s %" PRIu64 "\n", "frames", totals->frames);
    fprintf(out, "  %-14s %" PRIu64 "\n", "segments", totals->segments);
    fprintf(out, "  %-14s %" PRIu64 " compressed, %" PRIu64 " raw, ratio %.3f\n", "bytes",
            totals->size, totals->content, (double)totals->content / (double)totals->size);
    json_object_foreach(schema->metadata, key, value)
    {
        if (is_shown(key))
            print_value(out, key, json_string_value(value));
    }
    for (size_t i = 0; (entry = history(schema, i)); i++)
        print_value(out, i ? "" : "history", entry);
    if (report->checked)
        fprintf(out, "  %-14s every frame is good\n", "checked");
}

static json_t *tensors_json(const struct schema *schema)
{
    json_t *tensors = json_array();
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct field *field = &schema->fields[i];
        json_t *shape = json_array();
        for (size_t k = 0; k < field->rank; k++)
            json_array_append_new(shape, json_integer((json_int_t)field->shape[k]));
        json_array_append_new(tensors, json_pack("{s:s, s:s, s:o}", "name", field->name, "dtype",
                                                 dtype_name(field->dtype), "shape", shape));
    }
    return tensors;
}

static void print_json(FILE *out, const struct report *report)
{
    const struct tstream_totals *totals = &report->totals;
    json_t *metadata = json_object(), *list = json_array(), *value;
    const char *key, *entry;
    json_object_foreach(report->schema->metadata, key, value)
    {
        if (is_shown(key))
            json_object_set(metadata, key, value);
    }
    for (size_t i = 0; (entry = history(report->schema, i)); i++)
        json_array_append_new(list, json_string(entry));
    json_t *name = json_string(report->name); // NULL if it is not UTF-8
    json_t *root =
        json_pack("{s:o, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:b}", "file",
                  name ? name : json_null(), "kind", schema_get(report->schema, "kind"), "tensors",
                  tensors_json(report->schema), "records", (json_int_t)totals->records, "frames",
                  (json_int_t)totals->frames, "segments", (json_int_t)totals->segments, "bytes",
                  (json_int_t)totals->size, "bytes_raw", (json_int_t)totals->content, "metadata",
                  metadata, "history", list, "checked", report->checked);
    json_dumpf(root, out, JSON_COMPACT | JSON_ENSURE_ASCII); // a terminal shows what is escaped
    fputc('\n', out);
    json_decref(root);
}

// Describes a stream after reading all of it.
static int report_stream(const char *path, FILE *out, void (*print)(FILE *, const struct report *))
{
    struct tstream_reader *in = tstream_open(path, (size_t)tool.threads);
    struct batch *batch;
    int rc = in ? 1 : -1;
    while (rc > 0 && (rc = tstream_read(in, &batch)) > 0) {
        progress_add(batch->rows);
        batch_free(batch);
    }
    if (rc == 0)
        print(out,
              &(struct report){tstream_name(in), tstream_schema(in), *tstream_totals(in), true});
    tstream_close(in);
    return rc;
}

// Describes a file by the tables at its end.
static int report_file(const char *path, FILE *out, void (*print)(FILE *, const struct report *))
{
    struct tstream_file *file = tstream_file_open(path);
    if (!file)
        return -1;
    print(out, &(struct report){tstream_file_name(file), tstream_file_schema(file),
                                *tstream_file_totals(file), false});
    tstream_file_close(file);
    return 0;
}

int main(int argc, char **argv)
{
    bool check = false, json = false;
    const struct option options[] = {
        OPTION_FLAG("check", 'c', &check, "read and verify every frame"),
        OPTION_FLAG("json", 'j', &json, "print a JSON object on one line for each file"),
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_THREADS,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands = tool_start(argc, argv,
                                 &(struct tool_info){"tstream-info", "[OPTION]... [FILE]...",
                                                     "Show what tensor streams hold.", options});
    struct output *output = tool.output ? output_open(tool.output) : NULL;
    if (tool.output && !output)
        tool_fail();
    void (*print)(FILE *, const struct report *) = json ? print_json : print_text;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        error_set_errno(STATUS_INTERNAL, "out of memory");
        tool_fail();
    }
    int status = STATUS_OK;
    progress_start("records", 0);
    for (char **input = tool_inputs(operands); *input; input++) {
        bool by_tables = !check && file_is_regular(*input);
        if ((by_tables ? report_file : report_stream)(*input, out, print) < 0) {
            tool_warn("%s", error_message());
            status = status ? status : (int)error_status();
        }
    }
    progress_finish();
    fclose(out);
    if (output) {
        tool_check(output_write(output, text, size));
        tool_check(output_commit(output));
    } else {
        fwrite(text, 1, size, stdout); // tool_finish reports errors
    }
    free(text);
    int finished = tool_finish();
    return status ? status : finished;
}
