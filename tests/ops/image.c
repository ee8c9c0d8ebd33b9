// Tests of the conversion of pixels and of the DCT autoencoder. SPDX-License-Identifier: MIT
#include <math.h>

#include "tests/ops/check.h"

// n: B, H, W.
static void image_to_float(struct check *check, const size_t *n)
{
    const size_t size = n[0] * 3 * n[1] * n[2];
    const uint8_t *images = check_buffer(check, IN, U8, NULL, size, 1);
    float *x = out_f32(check, size);
    RUN(check, image_to_float, x, images, n[0], n[1], n[2]);
}

void test_image_to_float(struct check *check)
{
    CASES(check, image_to_float, 0, {1, 1, 1}, {2, 3, 5}, {3, 17, 16}, {1, 64, 64});
    BENCH(check, image_to_float, 0, {8, 256, 256});
}

// Levels from below 0 to above 255, at and beside the steps between them, NaN and infinities.
static void float_to_image(struct check *check, const size_t *n)
{
    enum { SIZE = 6 * 17 * 16 };
    float x[SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        float level = ((float)(i % 300) - 150) / 127.5f;
        x[i] = i % 3 ? nextafterf(level, i % 3 == 1 ? 2 : -2) : level;
    }
    const float extremes[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e-30f, 1e-30f, -0.0f};
    const size_t size = n[0] * 3 * n[1] * n[2];
    for (size_t i = 0; size > 100 && i < sizeof extremes / sizeof *extremes; i++)
        x[5 * i] = extremes[i];
    const float *from =
        size <= SIZE ? check_buffer(check, IN, F32, x, size, 0) : in_f32(check, size, 1);
    uint8_t *images = check_buffer(check, OUT, U8, NULL, size, 0);
    RUN(check, float_to_image, images, from, n[0], n[1], n[2]);
}

void test_float_to_image(struct check *check)
{
    CASES(check, float_to_image, 0, {1, 1, 1}, {1, 3, 5}, {2, 17, 16}, {1, 64, 64});
    BENCH(check, float_to_image, 0, {8, 256, 256});
}

// n: coefficients of Y, of Cb and Cr each, B, H, W.
static void dct_cases(struct check *check, check_body *body, unsigned flags)
{
    CASES(check, body, flags, {10, 3, 1, 8, 8}, {10, 3, 2, 16, 24}, {64, 64, 1, 8, 16},
          {1, 0, 1, 16, 8}, {0, 1, 3, 8, 8}, {10, 3, 1, 16, 136});
}

static void dct_encode(struct check *check, const size_t *n)
{
    const uint8_t *images = check_buffer(check, IN, U8, NULL, n[2] * 3 * n[3] * n[4], 1);
    float *z = out_f32(check, n[2] * (n[0] + 2 * n[1]) * (n[3] / 8) * (n[4] / 8));
    RUN(check, dct_encode, z, images, 1.6f, n[0], n[1], n[2], n[3], n[4]);
}

void test_dct_encode(struct check *check)
{
    dct_cases(check, dct_encode, 0);
    BENCH(check, dct_encode, 0, {10, 3, 8, 256, 256});
}

static void dct_decode(struct check *check, const size_t *n)
{
    const float *z = in_f32(check, n[2] * (n[0] + 2 * n[1]) * (n[3] / 8) * (n[4] / 8), 1);
    float *x = out_f32(check, n[2] * 3 * n[3] * n[4]);
    RUN(check, dct_decode, x, z, 1.6f, n[0], n[1], n[2], n[3], n[4]);
}

void test_dct_decode(struct check *check)
{
    dct_cases(check, dct_decode, 0);
    BENCH(check, dct_decode, 0, {10, 3, 8, 256, 256});
}
