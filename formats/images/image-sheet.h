// Images side by side on one sheet. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_SHEET_H
#define DIT_IMAGE_SHEET_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

struct image_sheet {
    // Set by the user; the rest begins as zeros.
    size_t height, width;     // of an image, RGB
    size_t columns, rows_max; // images beyond these are left out; the rows of the
                              // least keys stay
    size_t scale, gap;        // pixels for one; between images

    size_t n; // rows so far
    struct image_row *rows;
};

// Places an image (height, width, 3) at the end of the row of this key; rows stand in the order of
// their keys. -1 with an error: no memory, or a sheet of too many pixels.
int image_sheet_add(struct image_sheet *sheet, int64_t key, const uint8_t *image);
// Writes all as a PNG. -1 with an error; without images that is STATUS_DATA.
int image_sheet_write(const struct image_sheet *sheet, struct output *output);
void image_sheet_free(struct image_sheet *sheet);

#endif
