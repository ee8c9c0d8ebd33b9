// A stream of images to one PNG: a contact sheet. SPDX-License-Identifier: MIT
#include <string.h>

#include "formats/images/image-sheet.h"
#include "formats/images/image-stream.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/tool/tool.h"

int main(int argc, char **argv)
{
    int64_t columns = 8, rows = 0, count = 0, scale = 1, gap = 2;
    bool by_class = false;
    const struct option options[] = {
        {"columns", 'c', OPTION_INT, &columns, "N", "images in a row (default 8)", 1, 65536, NULL},
        {"rows", 'r', OPTION_INT, &rows, "N",
         "rows (default 8, as many as --count needs, or one for every class)", 1, 65536, NULL},
        {"count", 'n', OPTION_INT, &count, "N", "show the first N images", 1, 1 << 24, NULL},
        {"by-class", 'b', OPTION_FLAG, &by_class, NULL, "a row for every label, in their order", 0,
         0, NULL},
        {"scale", 's', OPTION_INT, &scale, "N", "enlarge each pixel to N x N", 1, 256, NULL},
        {"gap", 'g', OPTION_INT, &gap, "N", "pixels between images (default 2)", 0, 4096, NULL},
        TOOL_OPTION_THREADS,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **inputs = tool_start(
        argc, argv,
        &(struct tool_info){"tile-images", "[OPTION]... [FILE]",
                            "Show the images of a stream side by side, as one PNG.", options});
    if (tool_count(inputs) > 1)
        tool_usage_error("one input at most; tstream-cat joins several");
    if (by_class && count)
        tool_usage_error("--count and --by-class exclude each other; --columns limits each class");
    if (!rows)
        rows = by_class ? INT64_MAX : count ? (count + columns - 1) / columns : 8;
    if (!count || count > rows * columns)
        count = by_class ? INT64_MAX : rows * columns;

    struct output *output = output_open(tool.output);
    struct image_stream in;
    if (!output || image_stream_open(&in, inputs[0], (size_t)tool.threads, by_class))
        tool_fail();
    struct image_sheet sheet = {.height = in.height,
                                .width = in.width,
                                .columns = columns,
                                .rows_max = rows,
                                .scale = scale,
                                .gap = gap};

    // All is read, also what is not shown: a cut stream is told, and a program before us in the
    // pipe can finish.
    struct batch *batch;
    int rc;
    progress_start("images", in.count);
    while ((rc = tstream_read(in.reader, &batch)) > 0) {
        for (size_t i = 0; i < batch->rows; i++) {
            int64_t index = (int64_t)(batch->first + i), key = index / columns;
            if (by_class)
                memcpy(&key, batch->data[in.label] + i * sizeof key, sizeof key);
            const uint8_t *image = batch->data[in.image] + i * in.image_size;
            if (index < count && image_sheet_add(&sheet, key, image))
                tool_fail();
        }
        progress_add(batch->rows);
        batch_free(batch);
    }
    progress_finish();
    if (rc < 0)
        tool_fail();
    if (image_sheet_write(&sheet, output)) {
        error_prefix("%s", in.name);
        tool_fail();
    }
    if (output_commit(output))
        tool_fail();
    image_sheet_free(&sheet);
    tstream_close(in.reader);
    return tool_finish();
}
