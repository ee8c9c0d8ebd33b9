// tile-images: a stream of images -> a contact sheet as PNG. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/class-names.h"
#include "formats/images/image-sheet.h"
#include "formats/images/image-stream.h"
#include "formats/images/png.h"
#include "formats/images/terminal-image.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/tool/terminal.h"
#include "lib/tool/tool.h"

// Shows the sheet on the terminal: as `way` says, or if that is negative in the best way it knows.
static int show(const uint8_t *rgb, size_t width, size_t height, int way)
{
    struct terminal terminal = terminal_ask();
    if (way < 0)
        way = terminal.kitty                                 ? TERMINAL_KITTY
              : terminal.sixel && terminal_image_has_sixel() ? TERMINAL_SIXEL
                                                             : TERMINAL_BLOCKS;
    return terminal_image_write(stdout, (enum terminal_way)way, terminal.columns,
                                terminal.cell_width, rgb, width, height);
}

// Draws the sheet, and writes and shows it. output: NULL to only show it.
static int finish_sheet(const struct image_sheet *sheet, struct output *output, bool shown, int way)
{
    size_t width, height;
    uint8_t *rgb = image_sheet_draw(sheet, &width, &height);
    int rc = rgb ? 0 : -1;
    if (rc == 0 && output)
        rc = image_write_png(output, rgb, width, height, NULL, 0);
    if (rc == 0 && output)
        rc = output_commit(output);
    if (rc == 0 && shown)
        rc = show(rgb, width, height, way);
    free(rgb);
    return rc;
}

int main(int argc, char **argv)
{
    int64_t columns = 8, rows = 0, count = 0, scale = 1, gap = 2;
    bool by_class = false, named = false, shown = false;
    int way = -1;
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
        OPTION_FLAG("show", 0, &shown,
                    "show the sheet on the terminal; the PNG is written only with --output"),
        OPTION_CHOICE("show-as", 0, &way,
                      "--show in this way (default: the best one that the terminal knows)", "kitty",
                      "sixel", "blocks"),
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

    shown = shown || way >= 0;
    if (way == TERMINAL_SIXEL && !terminal_image_has_sixel())
        tool_usage_error(
            "--show-as sixel: built without libsixel; kitty and blocks need no library");
    struct output *output = shown && !tool.output ? NULL : output_open(tool.output);
    struct image_stream in;
    if ((!output && (!shown || tool.output)) ||
        image_stream_open(&in, input, (size_t)tool.threads, by_class) < 0)
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
    if (finish_sheet(&sheet, output, shown, way) < 0) {
        if (error_status() == STATUS_DATA)
            error_prefix("%s", in.name);
        tool_fail();
    }
    uint64_t tiles = image_sheet_count(&sheet);
    if (tiles < read && !asked)
        tool_note("%" PRIu64 " of %" PRIu64 " images are on the sheet; %s", tiles, read,
                  by_class ? "--columns N shows more of each class" : "--count N shows more");
    image_sheet_free(&sheet);
    json_decref(names);
    tstream_close(in.reader);
    return tool_finish();
}
