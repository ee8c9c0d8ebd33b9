// Reads and writes PNG files. SPDX-License-Identifier: MIT
#ifndef DIT_PNG_H
#define DIT_PNG_H

#include <stddef.h>
#include <stdint.h>

#include "formats/images/image.h"
#include "lib/base/io.h"

// Decodes as image_decode does. *orientation: the EXIF orientation, 1 to 8; unchanged if there is
// none. The image is to be freed also after -1.
int image_decode_png(struct image *image, const uint8_t *file, size_t size, int *orientation);

// Writes pixels (height, width, 3). -1 with an error (74).
int image_write_png(struct output *output, const uint8_t *rgb, size_t width, size_t height);

#endif
