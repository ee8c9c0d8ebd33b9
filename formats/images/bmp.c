// Decodes uncompressed BMP files: of 1, 4 or 8 bits with a palette, of 24 or 32 bits without one.
// SPDX-License-Identifier: MIT
#include <stdbool.h>
#include <string.h>

#include "formats/images/decoders.h"
#include "lib/base/bytes.h"
#include "lib/base/error.h"

enum {
    FILE_HEADER = 14,
    INFO_HEADER = 40, // the least that is read; later versions are longer
    BITFIELDS = 3,    // compression: 32 bits with masks, as good as uncompressed if they are usual
    MASKS_END = FILE_HEADER + INFO_HEADER + 12,
};

// The usual order of 32 bits: B G R and an unused byte or alpha.
static bool masks_are_usual(const uint8_t *file, size_t size)
{
    static const uint8_t usual[] = {0, 0, 0xFF, 0, 0, 0xFF, 0, 0, 0xFF, 0, 0, 0};
    return size >= MASKS_END && memcmp(file + FILE_HEADER + INFO_HEADER, usual, sizeof usual) == 0;
}

static void read_bmp_row(uint8_t *rgb, const uint8_t *row, size_t width, size_t bits,
                         const uint8_t *palette, size_t colors)
{
    static const uint8_t black[4];
    for (size_t x = 0; x < width; x++, rgb += 3) {
        const uint8_t *bgr = row + x * bits / 8;
        if (bits <= 8) {
            size_t color = *bgr >> (8 - bits - x * bits % 8) & ((1u << bits) - 1);
            bgr = color < colors ? palette + 4 * color : black;
        }
        for (size_t c = 0; c < 3; c++)
            rgb[c] = bgr[2 - c];
    }
}

int image_decode_bmp(struct image *image, const struct image_source *file)
{
    const uint8_t *data = file->data;
    if (file->size < FILE_HEADER + INFO_HEADER || get_le(data + 14, 4) < INFO_HEADER)
        return error_set(STATUS_DATA, "BMP: the header is too short");
    const size_t start = get_le(data + 10, 4), header = FILE_HEADER + get_le(data + 14, 4);
    const int32_t width = (int32_t)get_le(data + 18, 4), height = (int32_t)get_le(data + 22, 4);
    const size_t bits = get_le(data + 28, 2), compression = get_le(data + 30, 4);
    if (width <= 0 || height == 0 || height == INT32_MIN)
        return error_set(STATUS_DATA, "BMP: an image of %d x %d pixels", width, height);
    bool masked = compression == BITFIELDS && bits == 32 && masks_are_usual(data, file->size);
    if ((compression != 0 && !masked) ||
        (bits != 1 && bits != 4 && bits != 8 && bits != 24 && bits != 32))
        return error_set(STATUS_DATA,
                         "a BMP of %zu bits and compression %zu, which is not supported; convert "
                         "it to PNG, as with \"magick FILE FILE.png\"",
                         bits, compression);
    size_t colors = bits > 8 ? 0 : get_le(data + 46, 4);
    if (bits <= 8 && (colors == 0 || colors > (size_t)1 << bits))
        colors = (size_t)1 << bits;
    struct image_claim claim = {.width = (size_t)width, .channels = 3};
    claim.height = height < 0 ? (size_t) - (int64_t)height : (size_t)height;
    const size_t stride = (claim.width * bits + 31) / 32 * 4;
    if (header > file->size || 4 * colors > file->size - header || start > file->size ||
        claim.height > (file->size - start) / stride)
        return error_set(STATUS_DATA, "BMP: the file ends early");
    if (image_init(image, file, &claim) < 0)
        return -1;
    for (size_t y = 0; y < claim.height; y++) {
        const uint8_t *row = data + start + y * stride;
        size_t to = height < 0 ? y : claim.height - 1 - y; // usually from below
        read_bmp_row(image->rgb + 3 * claim.width * to, row, claim.width, bits, data + header,
                     colors);
    }
    return 0;
}
