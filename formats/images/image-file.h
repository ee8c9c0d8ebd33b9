// Image files: JPEG and PNG to RGB and back. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_FILE_H
#define DIT_IMAGE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

// More pixels than any camera's; an image that claims more is refused before memory is taken.
#define IMAGE_PIXELS_MAX ((size_t)1 << 28)

struct image {
    size_t width, height;
    uint8_t *rgb; // (height, width, 3), with RESAMPLE_PADDING zeros after it; owned
};

// Decodes a file that is in memory; its content tells its type. Converts to RGB as Pillow's
// convert("RGB") does: CMYK as Adobe stores it (inverted), transparency dropped, of 16 bits the
// upper 8. exif: turn it as the EXIF orientation says. crop: what resample_crop doesn't need for
// this size may be left unset; 0: all is decoded. -1 with an error (65: not an image, broken, cut
// short, too large).
int image_decode(struct image *image, const uint8_t *file, size_t size, bool exif, size_t crop);
void image_free(struct image *image);

// Writes (height, width, 3) as a PNG file. -1 with an error (74).
int image_write_png(struct output *output, const uint8_t *rgb, size_t width, size_t height);

// For image_decode. orientation: as EXIF has it, 1 to 8, 1 if there is none.
int image_decode_jpeg(struct image *image, const uint8_t *file, size_t size, size_t crop,
                      int *orientation);
int image_decode_png(struct image *image, const uint8_t *file, size_t size, int *orientation);
// Checks the size against the limit, allocates.
int image_init(struct image *image, size_t width, size_t height);
// The orientation in an EXIF block (a TIFF header and its first directory); 1 if there is none.
int exif_orientation(const uint8_t *tiff, size_t size);

#endif
