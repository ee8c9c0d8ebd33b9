// Draws images side by side on one sheet. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_SHEET_H
#define DIT_IMAGE_SHEET_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

struct image_sheet {
    // Set by the caller.
    size_t height, width; // of each image
    size_t columns;       // images in a row; more of the same key are left out
    size_t rows_max;      // rows on the sheet; those with the least keys are kept
    size_t scale;         // pixels on the sheet, each way, for one of an image
    size_t gap;           // pixels between images
    bool named;           // a row's name stands left of it, if the row is high enough for letters
    const json_t *names;  // a list of the names by key; keys without one are shown as numbers

    // Private; zero at first.
    size_t n;
    struct image_row *rows; // (n), by key
};

// Adds an image (height, width, 3) at the end of the row of this key. Rows are ordered by key. -1
// with an error: out of memory, or a sheet of too many pixels (64).
int image_sheet_add(struct image_sheet *sheet, int64_t key, const uint8_t *image);
// The number of images on the sheet.
size_t image_sheet_count(const struct image_sheet *sheet);
// Draws the sheet, pixels (height,width,3), malloc'd. NULL with an error; STATUS_DATA if there are
// no images.
uint8_t *image_sheet_draw(const struct image_sheet *sheet, size_t *width, size_t *height);
// Draws the sheet and writes it as a PNG. -1 with an error; STATUS_DATA if there are no images.
int image_sheet_write(const struct image_sheet *sheet, struct output *output);
void image_sheet_free(struct image_sheet *sheet);

#endif
