// The operations of the convolutional autoencoder, on arrays with the channels last.
// SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

#define EPS 1e-6

void ref_channels_last(DEVICE, act *y, const float *x, size_t B, size_t C, size_t n)
{
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < n; i++)
            for (size_t c = 0; c < C; c++)
                y[(b * n + i) * C + c].v = x[(b * C + c) * n + i];
}

void ref_channels_first(DEVICE, float *x, const act *y, size_t B, size_t C, size_t n)
{
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < n; i++)
            for (size_t c = 0; c < C; c++)
                x[(b * C + c) * n + i] = y[(b * n + i) * C + c].v;
}

// Finds the row or column of x, which has `size` of them, that tap 0 to 2 of output `to` reads;
// false if the tap lies in the padding.
static bool find_tap(enum conv_kind kind, size_t size, size_t to, size_t tap, size_t *from)
{
    size_t at = kind == CONV_DOWN ? 2 * to + tap
                                  : to + tap - 1; // underflow wraps; the check below catches it
    if (at >= (kind == CONV_UP ? 2 * size : size))
        return false;
    *from = kind == CONV_UP ? at / 2 : at;
    return true;
}

void ref_conv3x3(DEVICE, act *y, const act *x, const act *w, const act *b, const act *sum,
                 enum conv_kind kind, size_t B, size_t H, size_t W, size_t I, size_t O)
{
    size_t out_H = kind == CONV_DOWN ? H / 2 : kind == CONV_UP ? 2 * H : H;
    size_t out_W = kind == CONV_DOWN ? W / 2 : kind == CONV_UP ? 2 * W : W;
    for (size_t n = 0; n < B * out_H * out_W; n++) {
        size_t image = n / (out_H * out_W), out_row = n / out_W % out_H, out_column = n % out_W;
        for (size_t o = 0; o < O; o++) {
            double total = b[o].v;
            for (size_t tap = 0; tap < 9; tap++) {
                size_t row, column;
                if (!find_tap(kind, H, out_row, tap / 3, &row) ||
                    !find_tap(kind, W, out_column, tap % 3, &column))
                    continue;
                const act *pixel = x + ((image * H + row) * W + column) * I;
                const act *weight = w + (o * 9 + tap) * I;
                for (size_t i = 0; i < I; i++)
                    total += (double)pixel[i].v * weight[i].v;
            }
            y[n * O + o].v = (float)(total + (sum ? sum[n * O + o].v : 0));
        }
    }
}

void ref_group_norm(DEVICE, act *y, const act *x, const act *w, const act *b, bool silu, size_t B,
                    size_t n, size_t C, size_t G)
{
    const size_t width = C / G;
    for (size_t group = 0; group < B * G; group++) {
        const size_t image = group / G, first = group % G * width;
        double mean = 0, variance = 0, count = (double)(n * width);
        for (size_t i = 0; i < n * width; i++)
            mean += x[(image * n + i / width) * C + first + i % width].v / count;
        for (size_t i = 0; i < n * width; i++) {
            double deviation = x[(image * n + i / width) * C + first + i % width].v - mean;
            variance += deviation * deviation / count;
        }
        double rstd = 1 / sqrt(variance + EPS);
        for (size_t i = 0; i < n * width; i++) {
            size_t c = first + i % width, at = (image * n + i / width) * C + c;
            double value = (x[at].v - mean) * rstd * w[c].v + b[c].v;
            y[at].v = (float)(silu ? value / (1 + exp(-value)) : value);
        }
    }
}

void ref_posterior(DEVICE, float *mean, float *std, const act *moments, float scale, size_t B,
                   size_t C, size_t n)
{
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < n; i++) {
                const act *m = moments + (b * n + i) * 2 * C;
                double logvar = fmin(fmax(m[C + c].v, -30), 20);
                mean[(b * C + c) * n + i] = scale * m[c].v;
                std[(b * C + c) * n + i] = (float)(scale * exp(0.5 * logvar));
            }
}
