// Decodes image files, JPEG or PNG, to RGB. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_FILE_H
#define DIT_IMAGE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/images/image.h"

// Decodes a file that is in memory; its first bytes tell its type. Converts to RGB as Pillow's
// convert("RGB") does: CMYK is taken as inverted, the way Adobe's programs store it; transparency
// is dropped; of 16 bits a channel the upper 8 are kept. exif: turns the image upright by its EXIF
// orientation. crop: the side for which resample_crop will be called; pixels that it doesn't need
// may be left unset. 0 decodes all. -1 with an error (65: not an image, broken, cut short, too
// large); the image is then empty.
int image_decode(struct image *image, const uint8_t *file, size_t size, bool exif, size_t crop);

#endif
