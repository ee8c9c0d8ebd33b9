// Reads JPEG files. SPDX-License-Identifier: MIT
#ifndef DIT_JPEG_H
#define DIT_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "formats/images/image.h"

// Decodes as image_decode does. *orientation: the EXIF orientation, 1 to 8; 1 if there is none.
// The image is to be freed also after -1.
int image_decode_jpeg(struct image *image, const uint8_t *file, size_t size, size_t crop,
                      int *orientation);

#endif
