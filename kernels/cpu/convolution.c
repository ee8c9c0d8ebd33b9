// Convolutions as matrix products, by an implicit im2col: row n of A holds the pixels that output n
// depends on, (3,3,I) or (kernel_H,kernel_W,I) as in the weights. A is never stored as a whole: the
// product asks for one block of it at a time. SPDX-License-Identifier: MIT
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/tile.h"

// The columns k .. k + K - 1 of a row of A that are requested, and where to write them.
struct row_segment {
    word_part *to;
    size_t k, K;
};

// Sets columns k .. k + n - 1 of the row, as far as they lie in the segment, to from[0 .. n - 1],
// or to zeros where `from` is NULL.
INLINE void fill_segment(const struct row_segment *s, size_t k, const real *from, size_t n)
{
    const size_t begin = k > s->k ? k : s->k;
    const size_t end = k + n < s->k + s->K ? k + n : s->k + s->K;
    if (begin >= end)
        return;
    if (from)
        fill_words(s->to + (begin - s->k), from + (begin - k), end - begin);
    else
        memset(s->to + (begin - s->k), 0, (end - begin) * sizeof *s->to);
}

// The row or column of x, which has `size` of them, that a tap at position `at` of its input reads;
// SIZE_MAX if the tap lies in the padding. A negative `at` has wrapped around.
static size_t find_pixel(enum conv_kind kind, size_t size, size_t at)
{
    if (kind == CONV_UP)
        return at < 2 * size ? at / 2 : SIZE_MAX;
    return at < size ? at : SIZE_MAX;
}

// Fills three taps of a row of A, from its column k on, from the given columns of a line (W,I) of
// x; line NULL: zeros.
static void fill_taps(const struct row_segment *segment, size_t k, const real *line,
                      const size_t *columns, size_t I)
{
    if (!line || (columns[0] < columns[1] && columns[0] + 2 == columns[2])) {
        fill_segment(segment, k, line ? line + columns[0] * I : NULL, 3 * I);
        return;
    }
    for (size_t tap = 0; tap < 3; tap++)
        fill_segment(segment, k + tap * I,
                     columns[tap] == SIZE_MAX ? NULL : line + columns[tap] * I, I);
}

// The fill_a of struct product; a_source is the convolution.
static void fill_im2col(const void *a_source, word_part *to, size_t to_row, size_t i, size_t rows,
                        size_t k, size_t K)
{
    const struct convolution *p = a_source;
    const bool down = p->kind == CONV_DOWN;
    for (size_t n = i; n < i + rows; n++, to += to_row) {
        const struct row_segment segment = {to, k, K};
        const size_t column = n % p->out_W, line = n / p->out_W, row = line % p->out_H;
        const real *x = p->x + line / p->out_H * p->H * p->W * p->I;
        const size_t first_row = down ? 2 * row : row - 1;
        const size_t first_column = down ? 2 * column : column - 1;
        size_t columns[3];
        for (size_t tap = 0; tap < 3; tap++)
            columns[tap] = find_pixel(p->kind, p->W, first_column + tap);
        for (size_t tap = 0; tap < 3; tap++) {
            const size_t from = find_pixel(p->kind, p->H, first_row + tap);
            fill_taps(&segment, 3 * tap * p->I, from == SIZE_MAX ? NULL : x + from * p->W * p->I,
                      columns, p->I);
        }
    }
}

// Whether the channels fill panels, and the transforms cost far less than the multiplications that
// they save.
static bool suits_winograd(const struct convolution *p)
{
    return p->I % 16 == 0 && p->O % WINOGRAD_PANEL == 0 && p->I >= 32 && p->O >= 32 &&
           p->H * p->W >= (p->kind == CONV_DOWN ? 1024 : 512);
}

void CPU_FN(conv3x3)(struct device *device, act *y, const act *x, const act *w, const act *b,
                     const act *sum, enum conv_kind kind, size_t B, size_t H, size_t W, size_t I,
                     size_t O)
{
    const struct convolution p = {
        .y = reals(y),
        .x = const_reals(x),
        .w = const_reals(w),
        .bias = const_reals(b),
        .sum = const_reals(sum),
        .y_row = O,
        .kind = kind,
        .padding = kind == CONV_DOWN ? 0 : 1,
        .B = B,
        .H = H,
        .W = W,
        .I = I,
        .O = O,
        .out_H = kind == CONV_DOWN ? H / 2
                 : kind == CONV_UP ? 2 * H
                                   : H,
        .out_W = kind == CONV_DOWN ? W / 2
                 : kind == CONV_UP ? 2 * W
                                   : W,
    };
    if (suits_winograd(&p)) {
        CPU_FN(winograd)(device, &p);
        return;
    }
    const struct product product = {.M = B * p.out_H * p.out_W,
                                    .N = O,
                                    .K = 9 * I,
                                    .fill_a = fill_im2col,
                                    .a_source = &p,
                                    .b = {p.w, 1, 9 * I},
                                    .c = p.y,
                                    .c_row = O,
                                    .start = p.sum,
                                    .bias = p.bias};
    CPU_FN(product)(device, &product);
}

// A convolution by conv2d_relu.
struct conv2d_source {
    const struct conv2d *p;
    const real *x;
    size_t out_H, out_W;
};

// The fill_a of struct product, as fill_im2col, for any kernel. Of the taps of a line those inside
// x are a run of pixels; the padding on both sides is zeros.
static void fill_conv2d(const void *a_source, word_part *to, size_t to_row, size_t i, size_t rows,
                        size_t k, size_t K)
{
    const struct conv2d_source *s = a_source;
    const struct conv2d *p = s->p;
    const size_t I = p->I, line_size = p->kernel_W * I;
    for (size_t n = i; n < i + rows; n++, to += to_row) {
        const struct row_segment segment = {to, k, K};
        const size_t column = n % s->out_W * p->stride, line = n / s->out_W;
        const size_t row = line % s->out_H * p->stride;
        const real *x = s->x + line / s->out_H * p->H * p->W * I;
        const size_t left = column < p->pad_W ? min(p->pad_W - column, p->kernel_W) : 0;
        const size_t first = column + left - p->pad_W; // of x
        const size_t inside = first < p->W ? min(p->kernel_W - left, p->W - first) : 0;
        for (size_t tap = k / line_size; tap < p->kernel_H && tap * line_size < k + K; tap++) {
            const size_t from = row + tap - p->pad_H; // above x it wraps around
            if (from >= p->H) {
                fill_segment(&segment, tap * line_size, NULL, line_size);
                continue;
            }
            size_t at = tap * line_size;
            fill_segment(&segment, at, NULL, left * I);
            fill_segment(&segment, at + left * I, x + (from * p->W + first) * I, inside * I);
            at += (left + inside) * I;
            fill_segment(&segment, at, NULL, (tap + 1) * line_size - at);
        }
    }
}

// Epilogue: the maximum with 0.
static void apply_relu(const struct product *p __attribute__((unused)), float *tile,
                       size_t i __attribute__((unused)), size_t j __attribute__((unused)),
                       size_t rows __attribute__((unused)), size_t columns __attribute__((unused)))
{
#pragma omp simd
    for (size_t n = 0; n < TILE_M * TILE_N; n++)
        tile[n] = tile[n] > 0 ? tile[n] : 0;
}

void CPU_FN(conv2d_relu)(struct device *device, act *y, size_t y_stride, const act *x, const act *w,
                         const act *b, const struct conv2d *p, size_t B)
{
    const struct conv2d_source source = {p, const_reals(x), conv2d_out_H(p), conv2d_out_W(p)};
    const struct convolution square = {.y = reals(y),
                                       .x = source.x,
                                       .w = const_reals(w),
                                       .bias = const_reals(b),
                                       .y_row = y_stride,
                                       .kind = CONV_SAME,
                                       .padding = p->pad_H,
                                       .relu = true,
                                       .B = B,
                                       .H = p->H,
                                       .W = p->W,
                                       .I = p->I,
                                       .O = p->O,
                                       .out_H = source.out_H,
                                       .out_W = source.out_W};
    if (p->kernel_H == 3 && p->kernel_W == 3 && p->stride == 1 && p->pad_H == p->pad_W &&
        p->pad_H <= 1 && suits_winograd(&square)) {
        CPU_FN(winograd)(device, &square);
        return;
    }
    const bool pointwise = p->kernel_H * p->kernel_W == 1 && p->stride == 1 && p->pad_H == 0;
    const struct product product = {.M = B * source.out_H * source.out_W,
                                    .N = p->O,
                                    .K = p->kernel_H * p->kernel_W * p->I,
                                    .a = {source.x, p->I, 1},
                                    .fill_a = pointwise ? NULL : fill_conv2d,
                                    .a_source = &source,
                                    .b = {square.w, 1, p->kernel_H * p->kernel_W * p->I},
                                    .c = square.y,
                                    .c_row = y_stride,
                                    .bias = square.bias,
                                    .epilogue = apply_relu};
    CPU_FN(product)(device, &product);
}
