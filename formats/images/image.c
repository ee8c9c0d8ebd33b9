// Allocates images within limits, reads EXIF's orientation and turns images by it.
// SPDX-License-Identifier: MIT
#include "formats/images/image.h"

#include <stdlib.h>
#include <string.h>

#include "formats/images/resample.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

static size_t pixels_max(const struct image_options *options)
{
    return options->pixels_max ? options->pixels_max : IMAGE_PIXELS_MAX;
}

// Bytes that one image may take.
static size_t memory_max(size_t pixels)
{
    size_t all;
    return size_mul(4, pixels, &all) && size_add(all, IMAGE_MEMORY_SPARE, &all) ? all : SIZE_MAX;
}

size_t image_budget(size_t pixels, size_t threads)
{
    const size_t one = memory_max(pixels);
    size_t more = one < IMAGE_MEMORY_SHARE ? one : IMAGE_MEMORY_SHARE, all;
    return size_mul(more, threads - 1, &more) && size_add(one, more, &all) ? all : SIZE_MAX;
}

size_t image_memory_left(const struct image_source *source, size_t pixels)
{
    const size_t all = memory_max(pixels_max(source->options));
    size_t used;
    return size_add(source->size, pixels, &used) && used < all ? all - used : 0;
}

// Takes what decoding will need from the budget. It is known all at once, as a thread that waited
// with a part of it might hold what another waits for.
static void take_memory(struct image *image, const struct image_source *source,
                        const struct image_claim *claim, size_t size)
{
    const size_t left = image_memory_left(source, size);
    size_t later = claim->extra + claim->working;
    if (source->options->exif) // to turn it
        later += 3 * claim->width * claim->height;
    image->taken = size + (later < left ? later : left);
    image->budget = source->options->budget;
    if (image->budget)
        budget_acquire(image->budget, image->taken);
}

int image_init(struct image *image, const struct image_source *source,
               const struct image_claim *claim)
{
    const size_t width = claim->width, height = claim->height, max = pixels_max(source->options);
    if (width == 0 || height == 0)
        return error_set(STATUS_DATA, "an image of %zu x %zu pixels", width, height);
    if (width > max / height)
        return error_set(STATUS_DATA,
                         "an image of %zu x %zu pixels; the limit is %zu (--max-pixels)", width,
                         height, max);
    if (claim->data_min > source->size)
        return error_set(STATUS_DATA, "%zu bytes are too few for its %zu x %zu pixels",
                         source->size, width, height);
    size_t size = width * height * claim->channels;
    const size_t left = image_memory_left(source, size);
    if (left == 0 || claim->extra > left)
        return error_set(STATUS_DATA,
                         "an image of %zu x %zu pixels, which takes more memory than the limit of "
                         "%zu pixels allows (--max-pixels)",
                         width, height, max);
    if (!image->budget)
        take_memory(image, source, claim, size);
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
    if (image->budget)
        budget_release(image->budget, image->taken);
    image->budget = NULL;
}

void image_flatten(struct image *image, const struct image_options *options)
{
    static const uint8_t none[3];
    const uint8_t *rgba = image->rgb, *under = options->background ? options->background : none;
    uint8_t *rgb = image->rgb;
    size_t n = image->width * image->height;
    for (size_t i = 0; i < n; i++, rgba += 4, rgb += 3) {
        image->transparent |= rgba[3] != 255;
        const int alpha = options->background ? rgba[3] : 255;
        for (size_t c = 0; c < 3; c++)
            rgb[c] = (uint8_t)image_div_255(rgba[c] * alpha + under[c] * (255 - alpha));
    }
    memset(rgb, 0, RESAMPLE_PADDING);
    uint8_t *smaller = realloc(image->rgb, 3 * n + RESAMPLE_PADDING);
    image->rgb = smaller ? smaller : image->rgb;
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
    static const uint8_t name[] = {'E', 'x', 'i', 'f', 0, 0};
    if (size >= sizeof name && memcmp(tiff, name, sizeof name) == 0)
        tiff += sizeof name, size -= sizeof name;
    enum { HEADER = 8, ENTRY = 12, TAG_ORIENTATION = 0x0112 };
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
        // It should be a SHORT, but some programs write a BYTE or a LONG.
        static const size_t sizes[] = {[1] = 1, [3] = 2, [4] = 4};
        size_t type = tiff_number(entry + 2, 2, little);
        size_t bytes = type < sizeof sizes / sizeof *sizes ? sizes[type] : 0;
        uint32_t value = tiff_number(entry + 8, bytes, little);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int image_orient(struct image *image, const struct image_source *source)
{
    const int orientation = image->orientation;
    if (orientation == 1)
        return 0;
    // Each of the eight orientations is a combination of three steps: rows and columns are swapped,
    // then the image is mirrored left to right, then top to bottom.
    bool swap = orientation >= 5;
    bool mirror_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool mirror_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    size_t width = swap ? image->height : image->width;
    size_t height = swap ? image->width : image->height;
    struct image turned = *image;
    turned.rgb = NULL;
    if (image_init(
            &turned, source,
            &(struct image_claim){
                .width = width, .height = height, .channels = 3, .extra = 3 * width * height}) < 0)
        return -1;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            size_t from_x = mirror_x ? width - 1 - x : x, from_y = mirror_y ? height - 1 - y : y;
            size_t from = swap ? from_x * image->width + from_y : from_y * image->width + from_x;
            memcpy(turned.rgb + 3 * (y * width + x), image->rgb + 3 * from, 3);
        }
    free(image->rgb);
    *image = turned;
    return 0;
}
