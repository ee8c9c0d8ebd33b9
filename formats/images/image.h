// An RGB image in memory. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_H
#define DIT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

// More pixels than any camera's. A file that claims more is refused before memory is allocated.
#define IMAGE_PIXELS_MAX ((size_t)1 << 28)

struct image {
    size_t width, height;
    uint8_t *rgb; // (height, width, 3), followed by RESAMPLE_PADDING zeros; owned
};

// Checks the size against the limit and allocates the pixels, unset. -1 with an error.
int image_init(struct image *image, size_t width, size_t height);
void image_free(struct image *image);

// The orientation, 1 to 8, in an EXIF block (a TIFF header and its first directory). 1, which is
// upright, if the block states none or is broken.
int exif_orientation(const uint8_t *tiff, size_t size);
// Turns and mirrors an image of this EXIF orientation so that it is upright. -1 with an error.
int image_orient(struct image *image, int orientation);

#endif
