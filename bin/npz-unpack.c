// npz-unpack: a NumPy archive of images -> a stream. SPDX-License-Identifier: MIT
#include <string.h>

#include "formats/containers/arrays.h"
#include "formats/tstream/row-writer.h"
#include "formats/tstream/tstream.h"
#include "lib/tool/tool.h"

#define LABELS "arr_1"

// Opens arr_1 where it holds a whole number for each image, else NULL without an error.
static struct array *open_labels(const struct arrays *arrays, size_t n)
{
    if (!arrays_have(arrays, LABELS))
        return NULL;
    struct array *labels = array_open(arrays, LABELS);
    if (!labels)
        tool_fail();
    const struct npy *npy = &labels->npy;
    if (npy->rank == 1 && npy->shape[0] == n &&
        (npy->dtype == DTYPE_I64 || npy->dtype == DTYPE_I32))
        return labels;
    char shape[128];
    error_set(
        STATUS_DATA,
        "%s: expected labels in arr_1, I64 or I32 [%zu], found %s %s; --no-labels leaves them "
        "out",
        arrays->path, n, dtype_name(npy->dtype),
        shape_text(npy->shape, npy->rank, shape, sizeof shape));
    tool_fail();
}

// The next label, or -1 if there are none.
static int read_array_label(struct array *labels, int64_t *label)
{
    *label = -1;
    if (!labels || labels->npy.dtype == DTYPE_I64)
        return labels ? array_read(labels, label, 1) : 0;
    int32_t narrow;
    const int rc = array_read(labels, &narrow, 1);
    *label = narrow;
    return rc;
}

static struct schema *unpacked_schema_new(const size_t *shape)
{
    struct schema *schema = schema_new("images");
    if (!schema || schema_add(schema, "image", DTYPE_U8, shape + 1, 3) < 0 ||
        schema_add(schema, "label", DTYPE_I64, NULL, 0) < 0 ||
        schema_set(schema, "count", "%zu", shape[0]) < 0 ||
        (shape[1] == shape[2] && schema_set(schema, "image_size", "%zu", shape[1]) < 0) ||
        schema_add_provenance(schema, tool_provenance()) < 0)
        tool_fail();
    return schema;
}

int main(int argc, char **argv)
{
    bool with_labels = true;
    const struct option options[] = {
        OPTION_FLAG("labels", 0, &with_labels,
                    "take labels from arr_1, if it is there (--no-labels: all labels are -1)"),
        TOOL_OPTION_THREADS,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands = tool_start(
        argc, argv,
        &(struct tool_info){"npz-unpack", "[OPTION]... FILE",
                            "Unpack the images of a NumPy archive into a stream.", options});
    if (tool_count(operands) != 1)
        tool_usage_error("expected one FILE, an .npz archive");

    struct output *output = output_open(tool.output);
    struct arrays arrays;
    if (!output || arrays_open(&arrays, operands[0]) < 0)
        tool_fail();
    struct array *images =
        array_expect(&arrays, "arr_0", DTYPE_U8, (const size_t[]){0, 0, 0, 3}, 4);
    if (!images)
        tool_fail();
    const size_t n = images->npy.shape[0];
    struct array *labels = with_labels ? open_labels(&arrays, n) : NULL;
    struct schema *schema = unpacked_schema_new(images->npy.shape);
    struct tstream_writer *out =
        tstream_create(output, schema, (size_t)tool.threads, tool_level(output));
    if (!out)
        tool_fail();

    struct row_writer rows = {.out = out, .schema = schema};
    const int image = schema_find(schema, "image"), label = schema_find(schema, "label");
    progress_start("images", n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *to = row_writer_at(&rows, image), *number = row_writer_at(&rows, label);
        int64_t value;
        if (!to || !number || array_read(images, to, schema->fields[image].size) < 0 ||
            read_array_label(labels, &value) < 0)
            tool_fail();
        memcpy(number, &value, sizeof value);
        tool_check(row_writer_next(&rows));
        progress_add(1);
    }
    tool_check(row_writer_flush(&rows));
    progress_finish();
    tool_check(tstream_finish(out));
    array_close(images);
    array_close(labels);
    arrays_close(&arrays);
    schema_free(schema);
    return tool_finish();
}
