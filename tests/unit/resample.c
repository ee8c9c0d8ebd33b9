// resample_crop: fast and plain kernels agree, and nothing but the image decides the result.
// (images.c shows that both equal Pillow.) SPDX-License-Identifier: MIT
#include "formats/images/resample.h"

#include <string.h>

#include "lib/base/rng.h"
#include "tests/tap.h"

#define GUARD 64

static uint64_t seed; // of all images

static uint8_t *make_image(size_t width, size_t height, int padding, uint64_t number)
{
    size_t size = 3 * width * height;
    uint8_t *rgb = malloc(size + RESAMPLE_PADDING);
    struct rng rng = {.seed = number, .purpose = RNG_TEST};
    for (size_t i = 0; i < size; i++) {
        uint32_t value = rng_u32(&rng, i);
        // Half of the bytes are 0 or 255, where the bicubic filter overshoots.
        rgb[i] = value & 0x100 ? (uint8_t)value : value & 0x200 ? 255 : 0;
    }
    memset(rgb + size, padding, RESAMPLE_PADDING);
    return rgb;
}

// Changes every pixel outside the window of resample_crop_window.
static void change_unread(uint8_t *rgb, size_t width, size_t height, size_t size)
{
    struct resample_window w = resample_crop_window(width, height, size);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            if (y - w.y >= w.height || x - w.x >= w.width)
                memset(rgb + 3 * (y * width + x), 0x5A, 3);
}

static void check(size_t width, size_t height, size_t size, enum resample_order order)
{
    const char *how = order == RESAMPLE_PILLOW13 ? ", Pillow 13" : "";
    uint8_t *zeros = make_image(width, height, 0, width * height + seed), *ones;
    ones = make_image(width, height, 0xFF, width * height + seed);
    size_t bytes = 3 * size * size;
    uint8_t *plain = malloc(bytes), *fast = malloc(bytes + 2 * GUARD), *again = malloc(bytes);
    memset(fast, 0xA5, bytes + 2 * GUARD);
    int rc = resample_crop_plain(zeros, width, height, size, order, plain);
    rc |= resample_crop(zeros, width, height, size, order, fast + GUARD);
    rc |= resample_crop(ones, width, height, size, order, again);
    bool guarded = true;
    for (size_t i = 0; i < GUARD; i++)
        guarded &= fast[i] == 0xA5 && fast[GUARD + bytes + i] == 0xA5;
    ok(rc == 0 && memcmp(plain, fast + GUARD, bytes) == 0, "%zux%zu to %zu%s: fast equals plain",
       width, height, size, how);
    ok(guarded, "%zux%zu to %zu%s: nothing is written outside", width, height, size, how);
    ok(memcmp(plain, again, bytes) == 0, "%zux%zu to %zu%s: what follows the image doesn't matter",
       width, height, size, how);
    change_unread(zeros, width, height, size);
    rc = resample_crop(zeros, width, height, size, order, again);
    ok(rc == 0 && memcmp(plain, again, bytes) == 0,
       "%zux%zu to %zu%s: nothing outside the window matters", width, height, size, how);
    free(zeros);
    free(ones);
    free(plain);
    free(fast);
    free(again);
}

static bool is_flat(size_t width, size_t height, size_t size, uint8_t value)
{
    uint8_t *rgb = calloc(3 * width * height + RESAMPLE_PADDING, 1), *out = malloc(3 * size * size);
    memset(rgb, value, 3 * width * height);
    bool flat = resample_crop(rgb, width, height, size, RESAMPLE_PILLOW13, out) == 0;
    for (size_t i = 0; i < 3 * size * size; i++)
        flat &= out[i] == value;
    free(rgb);
    free(out);
    return flat;
}

int main(void)
{
    seed = tap_seed(0);
    static const size_t cases[][3] = {
        {1, 1, 8},     {1, 40, 8},     {3, 2, 16},     {8, 8, 8},       {16, 16, 8},
        {17, 16, 8},   {15, 31, 8},    {33, 35, 9},    {64, 65, 16},    {127, 64, 31},
        {131, 67, 33}, {300, 301, 37}, {500, 375, 64}, {641, 479, 100}, {97, 1031, 24},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(cases[i][0], cases[i][1], cases[i][2], RESAMPLE_HORIZONTAL_FIRST);
    // Of these most steps have the vertical pass first.
    static const size_t tall[][3] = {
        {1, 40, 8}, {97, 1031, 24}, {40, 120, 8}, {33, 100, 16}, {61, 300, 20}, {35, 141, 17},
    };
    for (size_t i = 0; i < sizeof tall / sizeof *tall; i++)
        check(tall[i][0], tall[i][1], tall[i][2], RESAMPLE_PILLOW13);

    uint8_t *rgb = make_image(24, 24, 0, 7 + seed), out[3 * 24 * 24];
    ok(resample_crop(rgb, 24, 24, 24, RESAMPLE_HORIZONTAL_FIRST, out) == 0 &&
           memcmp(rgb, out, sizeof out) == 0,
       "an image of the right size stays as it is");
    free(rgb);
    rgb = make_image(30, 24, 0, 8 + seed);
    bool same = resample_crop(rgb, 30, 24, 24, RESAMPLE_HORIZONTAL_FIRST, out) == 0;
    for (size_t y = 0; y < 24; y++)
        same &= memcmp(rgb + 3 * (30 * y + 3), out + 3 * 24 * y, 3 * 24) == 0;
    ok(same, "an image of the right height is cut at floor((30 - 24) / 2)");
    free(rgb);

    bool flat = true;
    for (unsigned value = 0; value < 256; value += 51)
        flat &= is_flat(100, 67, 32, (uint8_t)value) && is_flat(5, 9, 32, (uint8_t)value) &&
                is_flat(131, 129, 32, (uint8_t)value);
    ok(flat, "one colour stays that colour");
    return tap_done();
}
