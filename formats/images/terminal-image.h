// Shows images on terminals. SPDX-License-Identifier: MIT
#ifndef DIT_TERMINAL_IMAGE_H
#define DIT_TERMINAL_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum terminal_way {
    TERMINAL_KITTY,  // kitty's graphics protocol: the PNG itself, in base64
    TERMINAL_SIXEL,  // DEC's graphics, 256 colours; by libsixel
    TERMINAL_BLOCKS, // upper half blocks in 24-bit colours: two pixels a character
};

// Whether this build has libsixel.
bool terminal_image_has_sixel(void);
// Writes pixels (height,width,3) as what a terminal of so many columns shows, and no wider than it.
// cell_width is that of a column in pixels; 0: unknown. -1 with an error; failed writes are noted
// by `to` itself.
int terminal_image_write(FILE *to, enum terminal_way way, size_t columns, size_t cell_width,
                         const uint8_t *rgb, size_t width, size_t height);

#endif
