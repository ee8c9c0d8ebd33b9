// The 3x3 convolutions of the autoencoder as matrix products, by an implicit im2col: row n of A
// holds the nine pixels that output n depends on, (3,3,I) as in the weights. A is never stored as a
// whole: the product asks for one block of it at a time. SPDX-License-Identifier: MIT
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/product.h"

// The columns k .. k + K - 1 of a row of A that are requested, and where to write them.
struct row_segment {
    float *to;
    size_t k, K;
};

// Sets columns k .. k + n - 1 of the row, as far as they lie in the segment, to from[0 .. n - 1],
// or to zeros where `from` is NULL.
INLINE void fill_segment(const struct row_segment *s, size_t k, const float *from, size_t n)
{
    const size_t begin = k > s->k ? k : s->k;
    const size_t end = k + n < s->k + s->K ? k + n : s->k + s->K;
    if (begin >= end)
        return;
    if (from)
        memcpy(s->to + (begin - s->k), from + (begin - k), (end - begin) * sizeof *from);
    else
        memset(s->to + (begin - s->k), 0, (end - begin) * sizeof *from);
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
static void fill_taps(const struct row_segment *segment, size_t k, const float *line,
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
static void fill_im2col(const void *a_source, float *to, size_t i, size_t rows, size_t k, size_t K)
{
    const struct convolution *p = a_source;
    const bool down = p->kind == CONV_DOWN;
    for (size_t n = i; n < i + rows; n++, to += K) {
        const struct row_segment segment = {to, k, K};
        const size_t column = n % p->out_W, line = n / p->out_W, row = line % p->out_H;
        const float *x = p->x + line / p->out_H * p->H * p->W * p->I;
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
        .y = floats(y),
        .x = const_floats(x),
        .w = const_floats(w),
        .bias = const_floats(b),
        .sum = const_floats(sum),
        .kind = kind,
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
