// Tests of the operations of the network that compares images. SPDX-License-Identifier: MIT
#include <math.h>

#include "tests/ops/check.h"

// n: B, H, W, the side of the result.
static void resize_images(struct check *check, const size_t *n)
{
    const uint8_t *images = check_buffer(check, IN, U8, NULL, n[0] * n[1] * n[2] * 3, 1);
    act *y = out_act(check, n[0] * n[3] * n[3] * 3);
    RUN(check, resize_images, y, images, n[0], n[1], n[2], n[3]);
}

void test_resize_images(struct check *check)
{
    CASES(check, resize_images, 0, {1, 1, 1, 1}, {2, 3, 5, 7}, {1, 17, 16, 9}, {1, 8, 8, 8},
          {2, 32, 48, 75});
    BENCH(check, resize_images, 0, {8, 256, 256, 299});
}

// Kernels and paddings, and the stride, as flags.
enum { K1 = 0, K3 = 1, K5 = 2, ROW7 = 3, COLUMN7 = 4, PADDED = 8, TWO = 16, WIDE = 32 };
static const size_t conv_flags[] = {K1,          K1 | TWO,           K3,
                                    K3 | PADDED, K3 | TWO,           K3 | TWO | PADDED,
                                    K5 | PADDED, ROW7 | PADDED,      COLUMN7 | PADDED,
                                    K1 | WIDE,   K3 | PADDED | WIDE, ROW7 | WIDE | PADDED};

// n: B, H, W, channels in and out.
static void conv2d_relu(struct check *check, const size_t *n)
{
    static const size_t heights[] = {1, 3, 5, 1, 7}, widths[] = {1, 3, 5, 7, 1};
    const size_t flags = n[FLAGS], kernel_H = heights[flags % 8], kernel_W = widths[flags % 8];
    const struct conv2d p = {.H = n[1],
                             .W = n[2],
                             .I = n[3],
                             .O = n[4],
                             .kernel_H = kernel_H,
                             .kernel_W = kernel_W,
                             .stride = flags & TWO ? 2 : 1,
                             .pad_H = flags & PADDED ? kernel_H / 2 : 0,
                             .pad_W = flags & PADDED ? kernel_W / 2 : 0};
    const size_t pixels = n[0] * conv2d_out_H(&p) * conv2d_out_W(&p), K = kernel_H * kernel_W * p.I;
    const size_t stride = p.O + (flags & WIDE ? 5 : 0); // the rest belongs to others
    const act *x = in_act(check, n[0] * p.H * p.W * p.I, 1);
    const act *w = in_act(check, p.O * K, 1 / sqrt((double)K)), *b = in_act(check, p.O, 1);
    act *y = flags & WIDE ? check_buffer(check, PARTS, ACT, NULL, pixels * stride, 0)
                          : out_act(check, pixels * stride);
    check->flops = 2.0 * (double)(pixels * K * p.O);
    RUN(check, conv2d_relu, y, stride, x, w, b, &p, n[0]);
}

void test_conv2d_relu(struct check *check)
{
    CASES_OF(check, conv2d_relu, conv_flags, {1, 7, 7, 1, 1}, {2, 9, 8, 3, 5}, {1, 11, 17, 24, 40},
             {3, 17, 17, 33, 64}, {2, 24, 23, 48, 32}, {1, 8, 8, 130, 70});
    BENCH(check, conv2d_relu, K3, {1, 147, 147, 32, 32});
    BENCH(check, conv2d_relu, K3 | PADDED, {1, 147, 147, 32, 64});
    BENCH(check, conv2d_relu, K1, {4, 35, 35, 288, 64});
    BENCH(check, conv2d_relu, ROW7 | PADDED, {4, 17, 17, 192, 192});
    BENCH(check, conv2d_relu, K3 | TWO, {1, 299, 299, 3, 32});
    BENCH(check, conv2d_relu, K1, {4, 8, 8, 2048, 448});
}

// MEAN, else the maximum. WITHIN: y has more channels, which belong to others.
enum { MEAN = 1, PAD = 2, STRIDE_2 = 4, WITHIN = 8 };

// n: B, H, W, C.
static void pool3x3(struct check *check, const size_t *n)
{
    const size_t flags = n[FLAGS], stride = flags & STRIDE_2 ? 2 : 1, padding = flags & PAD ? 1 : 0;
    const size_t pixels =
        n[0] * pool3x3_out(n[1], stride, padding) * pool3x3_out(n[2], stride, padding);
    const size_t y_stride = n[3] + (flags & WITHIN ? 3 : 0);
    const act *x = in_act(check, n[0] * n[1] * n[2] * n[3], 1);
    act *y = flags & WITHIN ? check_buffer(check, PARTS, ACT, NULL, pixels * y_stride, 0)
                            : out_act(check, pixels * y_stride);
    RUN(check, pool3x3, y, y_stride, x, flags & MEAN ? POOL_MEAN : POOL_MAX, stride, padding, n[0],
        n[1], n[2], n[3]);
}

void test_pool3x3(struct check *check)
{
    CASES(check, pool3x3, 4, {1, 3, 3, 1}, {2, 5, 8, 3}, {1, 17, 17, 40}, {3, 8, 9, 65});
    BENCH(check, pool3x3, MEAN | PAD, {4, 35, 35, 288});
    BENCH(check, pool3x3, STRIDE_2, {4, 147, 147, 64});
}

// n: B, pixels, C.
static void mean_pixels(struct check *check, const size_t *n)
{
    const act *x = in_act(check, n[0] * n[1] * n[2], 1);
    float *y = out_f32(check, n[0] * n[2]);
    RUN(check, mean_pixels, y, x, n[0], n[1], n[2]);
}

void test_mean_pixels(struct check *check)
{
    CASES(check, mean_pixels, 0, {1, 1, 1}, {2, 5, 3}, {3, 64, 130}, {1, 64, 2048});
    BENCH(check, mean_pixels, 0, {8, 64, 2048});
}

// n: rows, columns that are taken, further ones.
static void take_columns(struct check *check, const size_t *n)
{
    const act *x = in_act(check, n[0] * (n[1] + n[2]), 1);
    float *y = out_f32(check, n[0] * n[1]);
    RUN(check, take_columns, y, x, n[1] + n[2], n[0], n[1]);
}

void test_take_columns(struct check *check)
{
    CASES(check, take_columns, 0, {1, 1, 0}, {5, 3, 4}, {289, 7, 185});
    BENCH(check, take_columns, 0, {289, 7, 761});
}

// n: R, I, O.
static void product_f64(struct check *check, const size_t *n)
{
    const double *a = check_buffer(check, IN, F64, NULL, n[0] * n[1], 1);
    const double *b = check_buffer(check, IN, F64, NULL, n[2] * n[1], 1);
    double *c = check_buffer(check, INOUT, F64, NULL, n[0] * n[2], 1);
    check->flops = 2.0 * (double)(n[0] * n[1] * n[2]);
    RUN(check, product_f64, c, a, b, n[0], n[1], n[2]);
}

void test_product_f64(struct check *check)
{
    CASES(check, product_f64, 0, {1, 1, 1}, {4, 3, 3}, {5, 7, 4}, {33, 515, 100}, {37, 64, 97});
    BENCH(check, product_f64, 0, {2048, 128, 2048});
    BENCH(check, product_f64, 0, {1000, 2048, 1000});
}
