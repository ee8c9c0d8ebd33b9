// Keeps the images of each row until the sheet is drawn. SPDX-License-Identifier: MIT
#include "formats/images/image-sheet.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/caption.h"
#include "formats/images/png.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define BACKGROUND       255
#define SHEET_PIXELS_MAX ((size_t)1 << 28)
#define NAME_LENGTH_MAX  24  // characters
#define NAME_PIXELS      160 // the letters are enlarged once more for so many pixels of a row

struct image_row {
    int64_t key;
    size_t n; // images so far
    uint8_t *images;
};

static size_t image_size(const struct image_sheet *sheet)
{
    return 3 * sheet->height * sheet->width;
}

// The sheet's width or height for n images of this side; 0 if it overflows.
static size_t sheet_side(const struct image_sheet *sheet, size_t n, size_t side)
{
    size_t size, total;
    return size_mul(side, sheet->scale, &size) && size_add(size, sheet->gap, &size) &&
                   size_mul(size, n, &total)
               ? total - sheet->gap
               : 0;
}

static size_t letter_scale(const struct image_sheet *sheet)
{
    return 1 + sheet->height * sheet->scale / NAME_PIXELS;
}

// The name of a row; `number` is memory for one that has none.
static const char *name_of(const struct image_sheet *sheet, int64_t key, char number[24])
{
    const char *name =
        key >= 0 ? json_string_value(json_array_get(sheet->names, (size_t)key)) : "none";
    snprintf(number, 24, "%" PRId64, key);
    return name ? name : number;
}

// The width of the column of names, with the gap after it; 0 without one.
static size_t names_width(const struct image_sheet *sheet)
{
    size_t longest = 0;
    char number[24];
    if (!sheet->named || sheet->height * sheet->scale < CAPTION_HEIGHT)
        return 0;
    for (size_t i = 0; i < sheet->n; i++) {
        size_t length = caption_length(name_of(sheet, sheet->rows[i].key, number));
        longest = length > longest ? length : longest;
    }
    longest = longest < NAME_LENGTH_MAX ? longest : NAME_LENGTH_MAX;
    return longest * CAPTION_WIDTH * letter_scale(sheet) + (longest ? sheet->gap : 0);
}

static int check_size(const struct image_sheet *sheet, size_t rows)
{
    size_t width = sheet_side(sheet, sheet->columns, sheet->width);
    if (sheet->named) // the most that names may take
        width += NAME_LENGTH_MAX * CAPTION_WIDTH * letter_scale(sheet) + sheet->gap;
    size_t height = sheet_side(sheet, rows, sheet->height);
    if (width == 0 || height == 0 || width > SHEET_PIXELS_MAX / height)
        return error_set(STATUS_USAGE,
                         "%zu rows of %zu images of %zu x %zu pixels: the sheet would be larger "
                         "than %zu pixels; try smaller --rows, --columns or --scale",
                         rows, sheet->columns, sheet->width, sheet->height, SHEET_PIXELS_MAX);
    return 0;
}

// Finds the row of this key, or inserts it if it belongs on the sheet: with rows_max rows, a new
// one replaces the row of the greatest key. NULL if it doesn't belong, or after an error; then *rc
// is -1.
static struct image_row *find_row(struct image_sheet *sheet, int64_t key, int *rc)
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
    uint8_t *images = NULL;
    if (check_size(sheet, sheet->n + 1) == 0 &&
        mem_grow(&sheet->rows, sheet->n, 1, sizeof *sheet->rows) == 0 &&
        size_mul(sheet->columns, image_size(sheet), &size))
        images = mem_new(size, 1);
    if (!images) {
        *rc = -1;
        return NULL;
    }
    struct image_row *row = &sheet->rows[at];
    memmove(row + 1, row, (sheet->n++ - at) * sizeof *row);
    *row = (struct image_row){key, 0, images};
    return row;
}

int image_sheet_add(struct image_sheet *sheet, int64_t key, const uint8_t *image)
{
    int rc = 0;
    struct image_row *row = find_row(sheet, key, &rc);
    if (row && row->n < sheet->columns)
        memcpy(row->images + row->n++ * image_size(sheet), image, image_size(sheet));
    return rc;
}

size_t image_sheet_count(const struct image_sheet *sheet)
{
    size_t n = 0;
    for (size_t i = 0; i < sheet->n; i++)
        n += sheet->rows[i].n;
    return n;
}

static void draw_image(const struct image_sheet *sheet, const uint8_t *image, uint8_t *to,
                       size_t stride)
{
    for (size_t y = 0; y < sheet->height * sheet->scale; y++, to += stride)
        for (size_t x = 0; x < sheet->width * sheet->scale; x++)
            memcpy(to + 3 * x, image + 3 * (y / sheet->scale * sheet->width + x / sheet->scale), 3);
}

uint8_t *image_sheet_draw(const struct image_sheet *sheet, size_t *sheet_width,
                          size_t *sheet_height)
{
    size_t columns = 0;
    for (size_t i = 0; i < sheet->n; i++)
        columns = sheet->rows[i].n > columns ? sheet->rows[i].n : columns;
    if (columns == 0) {
        error_set(STATUS_DATA, "expected images, found none");
        return NULL;
    }
    const size_t images = names_width(sheet), side = sheet->height * sheet->scale;
    size_t width = images + sheet_side(sheet, columns, sheet->width);
    size_t height = sheet_side(sheet, sheet->n, sheet->height), stride = 3 * width;
    uint8_t *rgb = mem_new(height, stride);
    if (!rgb)
        return NULL;
    *sheet_width = width;
    *sheet_height = height;
    memset(rgb, BACKGROUND, height * stride);
    for (size_t y = 0; y < sheet->n; y++) {
        const size_t top = y * (side + sheet->gap);
        const size_t middle = top + (side - CAPTION_HEIGHT * letter_scale(sheet)) / 2;
        char number[24];
        if (images)
            caption_draw(rgb + middle * stride, stride, letter_scale(sheet),
                         name_of(sheet, sheet->rows[y].key, number), NAME_LENGTH_MAX);
        for (size_t x = 0; x < sheet->rows[y].n; x++) {
            size_t left = images + x * (sheet->width * sheet->scale + sheet->gap);
            draw_image(sheet, sheet->rows[y].images + x * image_size(sheet),
                       rgb + top * stride + 3 * left, stride);
        }
    }
    return rgb;
}

int image_sheet_write(const struct image_sheet *sheet, struct output *output)
{
    size_t width, height;
    uint8_t *rgb = image_sheet_draw(sheet, &width, &height);
    int rc = rgb ? image_write_png(output, rgb, width, height, NULL, 0) : -1;
    free(rgb);
    return rc;
}

void image_sheet_free(struct image_sheet *sheet)
{
    for (size_t i = 0; i < sheet->n; i++)
        free(sheet->rows[i].images);
    free(sheet->rows);
    sheet->rows = NULL;
    sheet->n = 0;
}
