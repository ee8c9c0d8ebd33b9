// Resizing of images, and pooling. SPDX-License-Identifier: MIT
#include "kernels/cpu/real.h"

// A place along one axis of an image, between two of its pixels.
struct axis_place {
    size_t low, high;
    float d;
};

INLINE struct axis_place find_axis_place(size_t i, size_t in, float scale)
{
    const float s = (float)i * scale;
    const size_t low = (size_t)s;
    return (struct axis_place){low, min(low + 1, in - 1), s - (float)low};
}

// In two statements, so that no compiler fuses the multiplication and the addition: both round.
INLINE float mix(float a, float b, float d)
{
    const float part = (b - a) * d;
    return a + part;
}

struct resize {
    real *y;
    const uint8_t *images;
    size_t H, W, out;
};

// Rows of the results.
static void resize_rows(const void *context, struct team_range range)
{
    const struct resize *p = context;
    const size_t H = p->H, W = p->W, out = p->out;
    const float scale_H = (float)H / (float)out, scale_W = (float)W / (float)out;
    for (size_t n = range.first; n < range.end; n++) {
        const struct axis_place row = find_axis_place(n % out, H, scale_H);
        const uint8_t *top = p->images + (n / out * H + row.low) * W * 3;
        const uint8_t *bottom = p->images + (n / out * H + row.high) * W * 3;
        real *to = p->y + n * out * 3;
        for (size_t i = 0; i < out; i++, to += 3) {
            const struct axis_place k = find_axis_place(i, W, scale_W);
            for (size_t c = 0; c < 3; c++) {
                const float above = mix(top[k.low * 3 + c], top[k.high * 3 + c], k.d);
                const float below = mix(bottom[k.low * 3 + c], bottom[k.high * 3 + c], k.d);
                to[c] = to_real((mix(above, below, row.d) - 128) / 128);
            }
        }
    }
}

void CPU_FN(resize_images)(struct device *device, act *y, const uint8_t *images, size_t B, size_t H,
                           size_t W, size_t out)
{
    const struct resize p = {reals(y), images, H, W, out};
    team_for(team_of(device, B * out * out), B * out, rows_of_grain(3 * out), resize_rows, &p);
}

// y (C) = the maximum or the sum of y and x.
INLINE void pool_pixel(float *y, const real *x, enum pool_kind kind, size_t C)
{
    if (kind == POOL_MAX)
#pragma omp simd
        for (size_t c = 0; c < C; c++) {
            const float value = to_float(x[c]);
            y[c] = y[c] > value ? y[c] : value;
        }
    else
#pragma omp simd
        for (size_t c = 0; c < C; c++)
            y[c] += to_float(x[c]);
}

#define CHANNELS ((size_t)256) // that are pooled at a time, in float32

struct pooling {
    real *y;
    const real *x;
    enum pool_kind kind;
    size_t y_stride, stride, padding, H, W, C, out_H, out_W;
};

// Pixels of the results.
static void pool_pixels(const void *context, struct team_range range)
{
    const struct pooling *p = context;
    const size_t C = p->C, W = p->W;
    for (size_t n = range.first; n < range.end; n++) {
        const size_t row = n / p->out_W % p->out_H * p->stride, column = n % p->out_W * p->stride;
        const size_t first_row = row < p->padding ? 0 : row - p->padding;
        const size_t first_column = column < p->padding ? 0 : column - p->padding;
        const size_t end_row = min(row + 3 - p->padding, p->H);
        const size_t end_column = min(column + 3 - p->padding, W);
        const real *from = p->x + n / (p->out_H * p->out_W) * p->H * W * C;
        real *to = p->y + n * p->y_stride;
        const size_t count = (end_row - first_row) * (end_column - first_column);
        const float divisor = p->kind == POOL_MEAN ? (float)count : 1;
        for (size_t c = 0; c < C; c += CHANNELS) {
            const size_t channels = min(CHANNELS, C - c);
            float pooled[CHANNELS];
            load_reals(pooled, from + (first_row * W + first_column) * C + c, channels);
            for (size_t i = first_row; i < end_row; i++)
                for (size_t j = first_column; j < end_column; j++)
                    if (i > first_row || j > first_column)
                        pool_pixel(pooled, from + (i * W + j) * C + c, p->kind, channels);
            for (size_t k = 0; k < channels; k++)
                to[c + k] = to_real(pooled[k] / divisor);
        }
    }
}

void CPU_FN(pool3x3)(struct device *device, act *y, size_t y_stride, const act *x,
                     enum pool_kind kind, size_t stride, size_t padding, size_t B, size_t H,
                     size_t W, size_t C)
{
    const struct pooling p = {.y = reals(y),
                              .x = const_reals(x),
                              .kind = kind,
                              .y_stride = y_stride,
                              .stride = stride,
                              .padding = padding,
                              .H = H,
                              .W = W,
                              .C = C,
                              .out_H = pool3x3_out(H, stride, padding),
                              .out_W = pool3x3_out(W, stride, padding)};
    const size_t pixels = B * p.out_H * p.out_W;
    team_for(team_of(device, pixels * C), pixels, rows_of_grain(9 * C), pool_pixels, &p);
}

struct means {
    float *y;
    const real *x;
    size_t n, C;
};

static void mean_images(const void *context, struct team_range range)
{
    const struct means *p = context;
    for (size_t b = range.first; b < range.end; b++) {
        const real *from = p->x + b * p->n * p->C;
        float *to = p->y + b * p->C;
        load_reals(to, from, p->C);
        for (size_t i = 1; i < p->n; i++)
            pool_pixel(to, from + i * p->C, POOL_MEAN, p->C);
        for (size_t c = 0; c < p->C; c++)
            to[c] /= (float)p->n;
    }
}

void CPU_FN(mean_pixels)(struct device *device, float *y, const act *x, size_t B, size_t n,
                         size_t C)
{
    const struct means p = {y, const_reals(x), n, C};
    team_for(team_of(device, B * n * C), B, rows_of_grain(n * C), mean_images, &p);
}

void CPU_FN(take_columns)(DEVICE, float *y, const act *x, size_t stride, size_t R, size_t n)
{
    for (size_t r = 0; r < R; r++)
        load_reals(y + r * n, const_reals(x) + r * stride, n);
}
