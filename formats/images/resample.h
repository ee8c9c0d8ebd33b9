// Pictures to squares, as Pillow resizes them, bit for bit. SPDX-License-Identifier: MIT
#ifndef DIT_RESAMPLE_H
#define DIT_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

// Bytes that must be readable, and set, after the last pixel of an image given to resample_*.
// Whole vectors are loaded; what they hold past the end has no influence on the result.
#define RESAMPLE_PADDING 32

// The centre crop of ADM (guided-diffusion, image_datasets.py, center_crop_arr): while the shorter
// side is at least twice `size`, halve with the box filter; then bicubic until the shorter side is
// `size`; then cut out the middle. rgb: (height, width, 3). out: (size, size, 3). Only what the
// crop shows is computed. size >= 1, width and height >= 1. -1 with an error: no memory.
int resample_crop(const uint8_t *rgb, size_t width, size_t height, size_t size, uint8_t *out);

// The part of the image that resample_crop reads.
struct resample_window {
    size_t x, y, width, height;
};
struct resample_window resample_crop_window(size_t width, size_t height, size_t size);

// As resample_crop on a processor without vector extensions; for tests.
int resample_crop_plain(const uint8_t *rgb, size_t width, size_t height, size_t size, uint8_t *out);

#endif
