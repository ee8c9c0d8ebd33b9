// Decodes image files to RGB. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_FILE_H
#define DIT_IMAGE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/images/image.h"

#define IMAGE_HEAD_SIZE 16 // bytes that tell the kind of a file

// Whether a file's first bytes are those of a picture, also of a kind that image_decode refuses.
bool image_is_known(const uint8_t *head, size_t size);
// Decodes a file that is in memory; its first bytes tell its kind. Converts to RGB as Pillow's
// convert("RGB") does: CMYK is taken as inverted, the way Adobe's programs store it; transparency
// is dropped unless there is a background; of 16 bits a channel the upper 8 are kept; of several
// pictures the first one is taken. -1 with an error (65: not an image, broken, cut short, too
// large; 70: out of memory); the image is then empty.
int image_decode(struct image *image, const uint8_t *file, size_t size,
                 const struct image_options *options);
// Decodes the file likewise. It is only read whole if its first bytes are those of a kind that
// image_decode knows. -1 with an error (also 66) that names it.
int image_read(struct image *image, const char *path, const struct image_options *options);

#endif
