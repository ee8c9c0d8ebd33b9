// Writes images as sixels, by libsixel. SPDX-License-Identifier: MIT
#ifndef DIT_SIXEL_H
#define DIT_SIXEL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// Writes pixels (height,width,3) in up to 256 colours, and a new line. -1 with an error.
int sixel_write(FILE *to, const uint8_t *rgb, size_t width, size_t height);

#endif
