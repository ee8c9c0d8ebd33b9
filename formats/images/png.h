// Writes PNG files. SPDX-License-Identifier: MIT
#ifndef DIT_PNG_H
#define DIT_PNG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

// A text in a picture: a key of 1 to 79 letters and a value in UTF-8.
struct image_text {
    const char *key, *value;
};

// Writes pixels (height, width, 3) and n texts. -1 with an error (74).
int image_write_png(struct output *output, const uint8_t *rgb, size_t width, size_t height,
                    const struct image_text *texts, size_t n);
// Makes the bytes of such a file without texts, *png, malloc'd. -1 with an error.
int image_make_png(uint8_t **png, size_t *size, const uint8_t *rgb, size_t width, size_t height);

#endif
