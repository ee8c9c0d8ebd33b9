// Chooses the colours and writes the sixels. SPDX-License-Identifier: MIT
#include "formats/images/sixel.h"

#include <limits.h>
#include <sixel.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define COLOURS 256

static int write_sixel_bytes(char *bytes, int size, void *to)
{
    return (int)fwrite(bytes, 1, (size_t)size, to);
}

int sixel_write(FILE *to, const uint8_t *rgb, size_t width, size_t height)
{
    sixel_output_t *output = NULL;
    sixel_dither_t *dither = NULL;
    const int w = (int)width, h = (int)height;
    if (width > INT_MAX / 3 || height > INT_MAX / 3 / width)
        return error_set(STATUS_USAGE, "%zu x %zu pixels are too many for libsixel", width, height);
    uint8_t *copy = mem_new(height, 3 * width); // libsixel writes into what it reads
    if (!copy)
        return -1;
    memcpy(copy, rgb, 3 * width * height);
    SIXELSTATUS status = sixel_output_new(&output, write_sixel_bytes, to, NULL);
    if (SIXEL_SUCCEEDED(status))
        status = sixel_dither_new(&dither, COLOURS, NULL);
    if (SIXEL_SUCCEEDED(status))
        status = sixel_dither_initialize(dither, copy, w, h, SIXEL_PIXELFORMAT_RGB888,
                                         SIXEL_LARGE_AUTO, SIXEL_REP_AUTO, SIXEL_QUALITY_AUTO);
    if (SIXEL_SUCCEEDED(status))
        status = sixel_encode(copy, w, h, 3, dither, output);
    if (dither)
        sixel_dither_unref(dither);
    if (output)
        sixel_output_unref(output);
    free(copy);
    if (SIXEL_FAILED(status))
        return error_set(STATUS_INTERNAL, "libsixel: %s", sixel_helper_format_error(status));
    fputc('\n', to);
    return 0;
}
