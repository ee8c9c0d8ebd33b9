// Writes JPEG files. SPDX-License-Identifier: MIT
#ifndef DIT_JPEG_H
#define DIT_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

// Writes pixels (height, width, 3) in a quality of 1 to 100, with libjpeg's other settings: colours
// at half the resolution. -1 with an error (70, 74).
int image_write_jpeg(struct output *output, const uint8_t *rgb, size_t width, size_t height,
                     int quality);

#endif
