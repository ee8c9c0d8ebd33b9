// tile-images: a stream of images -> a contact sheet as PNG. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <string.h>

#include "formats/images/class-names.h"
#include "formats/images/image-sheet.h"
#include "formats/images/image-stream.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/tool/tool.h"

int main(int argc, char **argv)
{
    int64_t columns = 8, rows = 0, count = 0, scale = 1, gap = 2;
    bool by_class = false, named = false;
    const struct option options[] = {
        OPTION_INT("columns", 'c', &columns, 1, 65536, "images in a row (default 8)"),
        OPTION_INT("rows", 'r', &rows, 1, 65536,
                   "largest number of rows (default 8, what --count needs, or all classes)"),
        OPTION_INT("count", 'n', &count, 1, 1 << 24, "show only the first N images"),
        OPTION_FLAG("by-class", 'b', &by_class,
                    "show a row of images for each label, in the order of the labels"),
        OPTION_FLAG("names", 0, &named, "write the name of each class beside its row (--by-class)"),
        OPTION_INT("scale", 's', &scale, 1, 256, "enlarge each pixel to N x N (default 1)"),
        OPTION_INT("gap", 'g', &gap, 0, 4096, "pixels between images (default 2)"),
        TOOL_OPTION_THREADS,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands = tool_start(
        argc, argv,
        &(struct tool_info){"tile-images", "[OPTION]... [FILE]",
                            "Show the images of a stream side by side, as one PNG.", options});
    const char *input = tool_one_input(operands);
    if (by_class && count)
        tool_usage_error("--count and --by-class exclude each other; --columns limits each class");
    if (named && !by_class)
        tool_usage_error("--names needs --by-class, which makes a row for each class");
    bool asked = rows || count; // for some of the images
    if (!rows)
        rows = by_class ? INT64_MAX : count ? (count + columns - 1) / columns : 8;
    if (!count || count > rows * columns)
        count = by_class ? INT64_MAX : rows * columns;

    struct output *output = output_open(tool.output);
    struct image_stream in;
    if (!output || image_stream_open(&in, input, (size_t)tool.threads, by_class) < 0)
        tool_fail();
    json_t *names = NULL;
    if (named && class_names_parse(schema_get(tstream_schema(in.reader), "classes"), &names) < 0) {
        error_prefix("%s", in.name);
        tool_fail();
    }
    struct image_sheet sheet = {.height = in.height,
                                .width = in.width,
                                .columns = columns,
                                .rows_max = rows,
                                .scale = scale,
                                .gap = gap,
                                .named = named,
                                .names = names};

    // Images that are not shown are read, too: so a stream that was cut short is noticed, and the
    // program before this one in a pipe can finish.
    struct batch *batch;
    int rc;
    uint64_t read = 0;
    progress_start("images", in.count);
    while ((rc = tstream_read(in.reader, &batch)) > 0) {
        for (size_t i = 0; i < batch->rows; i++) {
            int64_t index = (int64_t)(batch->first + i), key = index / columns;
            if (by_class)
                memcpy(&key, batch->data[in.label] + i * sizeof key, sizeof key);
            const uint8_t *image = batch->data[in.image] + i * in.image_size;
            if (index < count)
                tool_check(image_sheet_add(&sheet, key, image));
        }
        read += batch->rows;
        progress_add(batch->rows);
        batch_free(batch);
    }
    progress_finish();
    tool_check(rc);
    if (image_sheet_write(&sheet, output) < 0) {
        error_prefix("%s", in.name);
        tool_fail();
    }
    tool_check(output_commit(output));
    uint64_t shown = image_sheet_count(&sheet);
    if (shown < read && !asked)
        tool_note("%" PRIu64 " of %" PRIu64 " images are on the sheet; %s", shown, read,
                  by_class ? "--columns N shows more of each class" : "--count N shows more");
    image_sheet_free(&sheet);
    json_decref(names);
    tstream_close(in.reader);
    return tool_finish();
}
