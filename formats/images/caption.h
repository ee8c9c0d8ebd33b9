// Draws text in a small fixed-width font, for captions beside images. SPDX-License-Identifier: MIT
#ifndef DIT_CAPTION_H
#define DIT_CAPTION_H

#include <stddef.h>
#include <stdint.h>

// Pixels of a character, with the gap after it.
#define CAPTION_WIDTH  6
#define CAPTION_HEIGHT 8

// Characters of a text in UTF-8.
size_t caption_length(const char *text);
// Draws a text in black: at most `most` >= 1 characters, of which the last is an ellipsis if it has
// more. Characters beyond ASCII are boxes. rgb: where it begins, in an image of `stride` bytes a
// row; each pixel of the font becomes scale x scale.
void caption_draw(uint8_t *rgb, size_t stride, size_t scale, const char *text, size_t most);

#endif
