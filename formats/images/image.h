// RGB images in memory, and what decoding a file into one may take. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_H
#define DIT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/budget.h"

// How a file is decoded.
struct image_options {
    // The most pixels of an image; 0 means IMAGE_PIXELS_MAX. Decoding takes at most 4 bytes for
    // each of them and IMAGE_MEMORY_SPARE, the file's own bytes included, whatever the file says.
    size_t pixels_max;
    size_t crop; // the side for which resample_crop will be called, which may leave other pixels
                 // unset; 0: all are needed
    bool exif;   // turn the image upright by its EXIF orientation
    bool strict; // damage that would leave wrong pixels is an error
    const uint8_t *background; // (3): RGB under transparent pixels; NULL: transparency is dropped
    struct budget *budget;     // of image_budget bytes, from which all threads take; NULL: none
};

#define IMAGE_PIXELS_MAX   ((size_t)1 << 26)
#define IMAGE_MEMORY_SPARE ((size_t)32 << 20)
// What each thread beyond the first adds to the budget: a photograph of 24 million pixels, with
// transparency. So those are decoded in parallel, and larger ones wait for each other.
#define IMAGE_MEMORY_SHARE ((size_t)96 << 20)

struct image {
    size_t width, height;
    uint8_t *rgb;     // (height, width, 3), followed by RESAMPLE_PADDING zeros; owned
    int orientation;  // as the file's EXIF says, 1 to 8; 1 if there is none
    bool transparent; // some of its pixels are
    bool damaged;     // some of its pixels are wrong

    struct budget *budget; // to which image_free gives back so many bytes, or NULL
    size_t taken;
};

// A file in memory that is to be decoded.
struct image_source {
    const uint8_t *data;
    size_t size;
    const struct image_options *options;
};

// What a file's header claims, before memory is taken for it.
struct image_claim {
    size_t width, height;
    size_t channels; // 3, or 4 if there is transparency
    size_t extra;    // bytes that the decoder takes besides the file and the pixels
    size_t working;  // bytes that it takes later, within limits of its own
    size_t data_min; // bytes of data that so many pixels have at least; 0 if unknown
};

// Checks the claim against the limits, waits for the budget and allocates the pixels, unset:
// (height, width, channels). -1 with an error (65; 70 without memory).
int image_init(struct image *image, const struct image_source *source,
               const struct image_claim *claim);
void image_free(struct image *image);
// Bytes that so many threads may take in all, besides the files that they read.
size_t image_budget(size_t pixels_max, size_t threads);
// Bytes that a decoder may take besides the file and so many bytes of pixels.
size_t image_memory_left(const struct image_source *source, size_t pixels);
// Makes (height, width, 3) of (height, width, 4), over the background of the options, and notes
// whether a pixel is transparent.
void image_flatten(struct image *image, const struct image_options *options);

// x / 255, rounded, as Pillow computes it; x: 0 to 255 * 255.
static inline int image_div_255(int x)
{
    return (((x + 128) >> 8) + x + 128) >> 8;
}

// The orientation, 1 to 8, in an EXIF block (a TIFF header and its first directory, after the name
// that JPEG puts before it or not). 1, which is upright, if the block states none or is broken.
int exif_orientation(const uint8_t *tiff, size_t size);
// Turns and mirrors the image upright by its orientation. -1 with an error.
int image_orient(struct image *image, const struct image_source *source);

#endif
