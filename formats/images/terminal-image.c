// Writes images in the ways that terminals know. SPDX-License-Identifier: MIT
#include "formats/images/terminal-image.h"

#include <stdlib.h>
#include <string.h>

#include "formats/images/png.h"
#include "formats/images/sixel.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define KITTY_CHUNK 3072 // bytes, of which base64 makes the 4096 that the protocol allows
#define CELL_WIDTH  8    // pixels, where the terminal does not say it

// Makes an image narrower: each pixel is the mean of those that it takes the place of. NULL with an
// error.
static uint8_t *shrink(const uint8_t *rgb, size_t width, size_t height, size_t to_width,
                       size_t to_height)
{
    uint8_t *out = mem_new(to_height, 3 * to_width), *pixel = out;
    for (size_t y = 0; out && y < to_height; y++) {
        const size_t top = y * height / to_height, bottom = (y + 1) * height / to_height;
        for (size_t x = 0; x < to_width; x++) {
            const size_t left = x * width / to_width, right = (x + 1) * width / to_width;
            const size_t n = (bottom - top) * (right - left);
            for (size_t c = 0; c < 3; c++) {
                size_t sum = n / 2;
                for (size_t i = top; i < bottom; i++)
                    for (size_t k = left; k < right; k++)
                        sum += rgb[3 * (i * width + k) + c];
                *pixel++ = (uint8_t)(sum / n);
            }
        }
    }
    return out;
}

static void write_base64(FILE *to, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        const size_t n = size - i < 3 ? size - i : 3;
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= n > 2 ? bytes[i + 2] : 0;
        for (size_t k = 0; k < 4; k++)
            fputc(k <= n ? digits[group >> (18 - 6 * k) & 63] : '=', to);
    }
}

// The terminal itself makes an image that is too wide as wide as it is. q=2: it answers nothing.
static int write_kitty(FILE *to, size_t columns, size_t cell_width, const uint8_t *rgb,
                       size_t width, size_t height)
{
    uint8_t *png;
    size_t size;
    if (image_make_png(&png, &size, rgb, width, height) < 0)
        return -1;
    for (size_t at = 0; at < size; at += KITTY_CHUNK) {
        const size_t n = size - at < KITTY_CHUNK ? size - at : KITTY_CHUNK;
        fprintf(to, "\033_G");
        if (at == 0)
            fprintf(to, "a=T,f=100,q=2,");
        if (at == 0 && width > columns * cell_width)
            fprintf(to, "c=%zu,", columns);
        fprintf(to, "m=%d;", at + n < size);
        write_base64(to, png + at, n);
        fprintf(to, "\033\\");
    }
    fputc('\n', to);
    free(png);
    return 0;
}

// Sets the colour of what is drawn (38) or of what is behind it (48), unless it is set already.
static void set_colour(FILE *to, int what, const uint8_t *pixel, const uint8_t **last)
{
    if (!*last || memcmp(*last, pixel, 3) != 0)
        fprintf(to, "\033[%d;2;%d;%d;%dm", what, pixel[0], pixel[1], pixel[2]);
    *last = pixel;
}

static int write_blocks(FILE *to, const uint8_t *rgb, size_t width, size_t height)
{
    for (size_t y = 0; y < height; y += 2) {
        const uint8_t *upper = NULL, *lower = NULL, *row = rgb + 3 * width * y;
        for (size_t x = 0; x < width; x++) {
            set_colour(to, 38, row + 3 * x, &upper);
            if (y + 1 < height)
                set_colour(to, 48, row + 3 * (width + x), &lower);
            fprintf(to, "\xE2\x96\x80"); // U+2580, the upper half block
        }
        fprintf(to, "\033[0m\n");
    }
    return 0;
}

bool terminal_image_has_sixel(void)
{
#ifdef HAVE_sixel
    return true;
#else
    return false;
#endif
}

static int write_way(FILE *to, enum terminal_way way, const uint8_t *rgb, size_t width,
                     size_t height)
{
    if (way == TERMINAL_BLOCKS)
        return write_blocks(to, rgb, width, height);
#ifdef HAVE_sixel
    return sixel_write(to, rgb, width, height);
#else
    return error_set(STATUS_USAGE, "built without libsixel, which the pictures of a sixel terminal "
                                   "need");
#endif
}

int terminal_image_write(FILE *to, enum terminal_way way, size_t columns, size_t cell_width,
                         const uint8_t *rgb, size_t width, size_t height)
{
    cell_width = cell_width ? cell_width : CELL_WIDTH;
    if (way == TERMINAL_KITTY)
        return write_kitty(to, columns, cell_width, rgb, width, height);
    const size_t most = way == TERMINAL_BLOCKS ? columns : columns * cell_width;
    if (width <= most)
        return write_way(to, way, rgb, width, height);
    const size_t to_height = (height * most + width / 2) / width;
    uint8_t *smaller = shrink(rgb, width, height, most, to_height ? to_height : 1);
    int rc = smaller ? write_way(to, way, smaller, most, to_height ? to_height : 1) : -1;
    free(smaller);
    return rc;
}
