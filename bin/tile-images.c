// A stream of images to one PNG: a contact sheet. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/image-file.h"
#include "formats/image-stream.h"
#include "formats/tstream.h"
#include "lib/io.h"
#include "lib/mem.h"
#include "lib/tool.h"

#define BACKGROUND 255

// A row of the sheet.
struct row {
    int64_t key; // rows stand in this order: the label, or the row's number
    size_t n;    // images so far
    uint8_t *images;
};

struct sheet {
    size_t height, width, image_size; // of an image
    size_t columns, rows_max;         // the least keys win
    size_t scale, gap;
    size_t n;
    struct row *rows;
};

// A side of the sheet that shows n images, 0 if that is too much.
static size_t sheet_side(const struct sheet *sheet, size_t n, size_t side)
{
    size_t size, total;
    return size_mul(side, sheet->scale, &size) && size_add(size, sheet->gap, &size) &&
                   size_mul(size, n, &total)
               ? total - sheet->gap
               : 0;
}

static int check_size(const struct sheet *sheet, size_t rows)
{
    size_t width = sheet_side(sheet, sheet->columns, sheet->width);
    size_t height = sheet_side(sheet, rows, sheet->height);
    if (width == 0 || height == 0 || width > IMAGE_PIXELS_MAX / height)
        return error_set(STATUS_USAGE,
                         "%zu rows of %zu images of %zu x %zu pixels: the sheet would be larger "
                         "than %zu pixels; try smaller --rows, --columns or --scale",
                         rows, sheet->columns, sheet->width, sheet->height, IMAGE_PIXELS_MAX);
    return 0;
}

// The row of this key, made if it has a place on the sheet; NULL if not, or with -1 in *rc and an
// error.
static struct row *find_row(struct sheet *sheet, int64_t key, int *rc)
{
    size_t at = sheet->n;
    while (at > 0 && sheet->rows[at - 1].key >= key)
        at--;
    if (at < sheet->n && sheet->rows[at].key == key)
        return &sheet->rows[at];
    if (at == sheet->rows_max)
        return NULL;
    if (sheet->n == sheet->rows_max)
        free(sheet->rows[--sheet->n].images);
    size_t size;
    struct row *rows = NULL;
    uint8_t *images = NULL;
    if (check_size(sheet, sheet->n + 1) == 0 &&
        (rows = mem_resize(sheet->rows, sheet->n + 1, sizeof *rows)))
        sheet->rows = rows;
    if (rows && size_mul(sheet->columns, sheet->image_size, &size))
        images = mem_new(size, 1);
    if (!images) {
        *rc = -1;
        return NULL;
    }
    memmove(&rows[at + 1], &rows[at], (sheet->n++ - at) * sizeof *rows);
    rows[at] = (struct row){key, 0, images};
    return &rows[at];
}

static int sheet_add(struct sheet *sheet, int64_t key, const uint8_t *image)
{
    int rc = 0;
    struct row *row = find_row(sheet, key, &rc);
    if (row && row->n < sheet->columns)
        memcpy(row->images + row->n++ * sheet->image_size, image, sheet->image_size);
    return rc;
}

static void draw_image(const struct sheet *sheet, const uint8_t *image, uint8_t *to, size_t stride)
{
    for (size_t y = 0; y < sheet->height * sheet->scale; y++, to += stride)
        for (size_t x = 0; x < sheet->width * sheet->scale; x++)
            memcpy(to + 3 * x, image + 3 * (y / sheet->scale * sheet->width + x / sheet->scale), 3);
}

static int sheet_write(const struct sheet *sheet, struct output *output)
{
    size_t columns = 0;
    for (size_t i = 0; i < sheet->n; i++)
        columns = sheet->rows[i].n > columns ? sheet->rows[i].n : columns;
    if (columns == 0)
        return error_set(STATUS_DATA, "expected images, found none");
    size_t width = sheet_side(sheet, columns, sheet->width);
    size_t height = sheet_side(sheet, sheet->n, sheet->height), stride = 3 * width;
    uint8_t *rgb = mem_new(height, stride);
    if (!rgb)
        return -1;
    memset(rgb, BACKGROUND, height * stride);
    for (size_t y = 0; y < sheet->n; y++)
        for (size_t x = 0; x < sheet->rows[y].n; x++) {
            size_t top = y * (sheet->height * sheet->scale + sheet->gap);
            size_t left = x * (sheet->width * sheet->scale + sheet->gap);
            draw_image(sheet, sheet->rows[y].images + x * sheet->image_size,
                       rgb + top * stride + 3 * left, stride);
        }
    int rc = image_write_png(output, rgb, width, height);
    free(rgb);
    return rc;
}

static void sheet_free(struct sheet *sheet)
{
    for (size_t i = 0; i < sheet->n; i++)
        free(sheet->rows[i].images);
    free(sheet->rows);
}

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
    if (!output || image_stream_open(&in, inputs[0], by_class))
        tool_fail();
    struct sheet sheet = {.height = in.height,
                          .width = in.width,
                          .image_size = in.image_size,
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
            if (index < count && sheet_add(&sheet, key, batch->data[in.image] + i * in.image_size))
                tool_fail();
        }
        progress_add(batch->rows);
        batch_free(batch);
    }
    progress_finish();
    if (rc < 0)
        tool_fail();
    if (sheet_write(&sheet, output)) {
        error_prefix("%s", in.name);
        tool_fail();
    }
    if (output_commit(output))
        tool_fail();
    sheet_free(&sheet);
    tstream_close(in.reader);
    return tool_finish();
}
