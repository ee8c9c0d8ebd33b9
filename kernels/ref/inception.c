// The operations of the network that compares images, on arrays with the channels last.
// SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

// A place along one axis of an image, between two of its pixels.
struct resize_place {
    size_t low, high;
    float d;
};

static struct resize_place find_resize_place(size_t i, size_t in, size_t out)
{
    const float scale = (float)in / (float)out, s = (float)i * scale;
    const size_t low = (size_t)s;
    return (struct resize_place){low, low + 1 < in ? low + 1 : in - 1, s - (float)low};
}

// In two statements, so that no compiler fuses the multiplication and the addition: both round.
static float mix_values(float a, float b, float d)
{
    const float part = (b - a) * d;
    return a + part;
}

void ref_resize_images(DEVICE, act *y, const uint8_t *images, size_t B, size_t H, size_t W,
                       size_t out)
{
    for (size_t n = 0; n < B * out * out * 3; n++) {
        const size_t c = n % 3, column = n / 3 % out, row = n / 3 / out % out,
                     b = n / 3 / out / out;
        const struct resize_place r = find_resize_place(row, H, out);
        const struct resize_place k = find_resize_place(column, W, out);
        const uint8_t *top = images + (b * H + r.low) * W * 3 + c;
        const uint8_t *bottom = images + (b * H + r.high) * W * 3 + c;
        const float v = mix_values(mix_values(top[k.low * 3], top[k.high * 3], k.d),
                                   mix_values(bottom[k.low * 3], bottom[k.high * 3], k.d), r.d);
        y[n].v = (v - 128) / 128;
    }
}

void ref_conv2d_relu(DEVICE, act *y, size_t y_stride, const act *x, const act *w, const act *b,
                     const struct conv2d *p, size_t B)
{
    const size_t out_H = conv2d_out_H(p), out_W = conv2d_out_W(p), I = p->I;
    for (size_t n = 0; n < B * out_H * out_W; n++) {
        const size_t image = n / (out_H * out_W), row = n / out_W % out_H, column = n % out_W;
        for (size_t o = 0; o < p->O; o++) {
            double total = b[o].v;
            for (size_t tap = 0; tap < p->kernel_H * p->kernel_W; tap++) {
                // A place above or left of x wraps around, and so lies beyond it.
                const size_t from = row * p->stride + tap / p->kernel_W - p->pad_H;
                const size_t from_column = column * p->stride + tap % p->kernel_W - p->pad_W;
                if (from >= p->H || from_column >= p->W)
                    continue;
                const act *pixel = x + ((image * p->H + from) * p->W + from_column) * I;
                const act *weight = w + (o * p->kernel_H * p->kernel_W + tap) * I;
                for (size_t i = 0; i < I; i++)
                    total += (double)pixel[i].v * weight[i].v;
            }
            y[n * y_stride + o].v = (float)fmax(total, 0);
        }
    }
}

void ref_pool3x3(DEVICE, act *y, size_t y_stride, const act *x, enum pool_kind kind, size_t stride,
                 size_t padding, size_t B, size_t H, size_t W, size_t C)
{
    const size_t out_H = pool3x3_out(H, stride, padding), out_W = pool3x3_out(W, stride, padding);
    for (size_t n = 0; n < B * out_H * out_W; n++) {
        const size_t image = n / (out_H * out_W), row = n / out_W % out_H, column = n % out_W;
        for (size_t c = 0; c < C; c++) {
            double sum = 0, most = -INFINITY;
            int count = 0;
            for (size_t tap = 0; tap < 9; tap++) {
                const size_t from = row * stride + tap / 3 - padding;
                const size_t from_column = column * stride + tap % 3 - padding;
                if (from >= H || from_column >= W)
                    continue;
                const double value = x[((image * H + from) * W + from_column) * C + c].v;
                sum += value;
                most = fmax(most, value);
                count++;
            }
            y[n * y_stride + c].v = (float)(kind == POOL_MAX ? most : sum / count);
        }
    }
}

void ref_mean_pixels(DEVICE, float *y, const act *x, size_t B, size_t n, size_t C)
{
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += x[(b * n + i) * C + c].v;
            y[b * C + c] = (float)(sum / (double)n);
        }
}

void ref_take_columns(DEVICE, float *y, const act *x, size_t stride, size_t R, size_t n)
{
    for (size_t r = 0; r < R; r++)
        for (size_t i = 0; i < n; i++)
            y[r * n + i] = x[r * stride + i].v;
}

void ref_product_f64(DEVICE, double *c, const double *a, const double *b, size_t R, size_t I,
                     size_t O)
{
    for (size_t r = 0; r < R; r++)
        for (size_t o = 0; o < O; o++) {
            double sum = 0;
            for (size_t i = 0; i < I; i++)
                sum += a[r * I + i] * b[o * I + i];
            c[r * O + o] += sum;
        }
}
