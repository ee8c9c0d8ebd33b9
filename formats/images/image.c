// Allocates images, reads EXIF's orientation and turns images by it. SPDX-License-Identifier: MIT
#include "formats/images/image.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/resample.h"
#include "lib/base/error.h"

int image_init(struct image *image, size_t width, size_t height)
{
    if (width == 0 || height == 0)
        return error_set(STATUS_DATA, "an image of %zu x %zu pixels", width, height);
    if (width > IMAGE_PIXELS_MAX / height)
        return error_set(STATUS_DATA, "an image of %zu x %zu pixels; the limit is %zu", width,
                         height, IMAGE_PIXELS_MAX);
    size_t size = 3 * width * height;
    image->width = width;
    image->height = height;
    image->rgb = malloc(size + RESAMPLE_PADDING);
    if (!image->rgb)
        return error_set(STATUS_INTERNAL, "out of memory for an image of %zu x %zu", width, height);
    memset(image->rgb + size, 0, RESAMPLE_PADDING);
    return 0;
}

void image_free(struct image *image)
{
    free(image->rgb);
    image->rgb = NULL;
}

static uint32_t tiff_number(const uint8_t *bytes, size_t size, bool little)
{
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint32_t)bytes[i] << 8 * (little ? i : size - 1 - i);
    return value;
}

int exif_orientation(const uint8_t *tiff, size_t size)
{
    enum { HEADER = 8, ENTRY = 12, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3 };
    if (size < HEADER || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return 1;
    bool little = tiff[0] == 'I';
    size_t at = tiff_number(tiff + 4, 4, little);
    if (at > size - 2)
        return 1;
    size_t entries = tiff_number(tiff + at, 2, little);
    for (at += 2; entries > 0 && at + ENTRY <= size; entries--, at += ENTRY) {
        const uint8_t *entry = tiff + at;
        if (tiff_number(entry, 2, little) != TAG_ORIENTATION)
            continue;
        uint32_t value = tiff_number(entry + 8, 2, little);
        return tiff_number(entry + 2, 2, little) == TYPE_SHORT && value >= 1 && value <= 8
                   ? (int)value
                   : 1;
    }
    return 1;
}

int image_orient(struct image *image, int orientation)
{
    if (orientation == 1)
        return 0;
    // Each of the eight orientations is a combination of three steps: rows and columns are swapped,
    // then the image is mirrored left to right, then top to bottom.
    bool swap = orientation >= 5;
    bool mirror_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool mirror_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    size_t width = swap ? image->height : image->width;
    size_t height = swap ? image->width : image->height;
    struct image turned;
    if (image_init(&turned, width, height) < 0)
        return -1;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            size_t from_x = mirror_x ? width - 1 - x : x, from_y = mirror_y ? height - 1 - y : y;
            size_t from = swap ? from_x * image->width + from_y : from_y * image->width + from_x;
            memcpy(turned.rgb + 3 * (y * width + x), image->rgb + 3 * from, 3);
        }
    image_free(image);
    *image = turned;
    return 0;
}
