// Crops and resizes images to squares, bit for bit as Pillow does. SPDX-License-Identifier: MIT
#ifndef DIT_RESAMPLE_H
#define DIT_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

// Bytes that must be readable and initialized after the last pixel of an image given to resample_*:
// whole vectors are loaded. The values of these bytes don't influence the result.
#define RESAMPLE_PADDING 32

// Which pass of a resize comes first; 8-bit pixels stand in between, so that the other order gives
// slightly other pixels.
enum resample_order {
    RESAMPLE_HORIZONTAL_FIRST, // as Pillow before 13, with which the published weights were made
    RESAMPLE_PILLOW13, // vertical first if the height loses more than twice what the width does
};

// The centre crop of ADM (guided-diffusion, image_datasets.py, center_crop_arr): while the shorter
// side is at least twice `size`, halve with the box filter; then bicubic until the shorter side is
// `size`; then cut out the middle. rgb: (height, width, 3). out: (size, size, 3). Only what the
// crop shows is computed. size, width and height are at least 1. -1 with an error (70) without
// memory.
int resample_crop(const uint8_t *rgb, size_t width, size_t height, size_t size,
                  enum resample_order order, uint8_t *out);

// The part of the image that decides resample_crop's result; other pixels may have any value.
struct resample_window {
    size_t x, y, width, height;
};
struct resample_window resample_crop_window(size_t width, size_t height, size_t size);

// resample_crop without vector instructions, for tests.
int resample_crop_plain(const uint8_t *rgb, size_t width, size_t height, size_t size,
                        enum resample_order order, uint8_t *out);

#endif
