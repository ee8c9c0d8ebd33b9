// The 3x3 convolutions of the autoencoder, as products: row n of A holds the nine pixels that
// output n sees, (3,3,I) as in the weights. A is never in memory: its panels are gathered from x
// when the product wants them. SPDX-License-Identifier: MIT
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/product.h"

// Columns k .. k + K - 1 of a row of A, at `to`.
struct part {
    float *to;
    size_t k, K;
};

// Copies what lies in the part of the n elements at column k of the row; from NULL: zeros.
INLINE void copy_part(const struct part *part, size_t k, const float *from, size_t n)
{
    const size_t begin = k > part->k ? k : part->k;
    const size_t end = k + n < part->k + part->K ? k + n : part->k + part->K;
    if (begin >= end)
        return;
    if (from)
        memcpy(part->to + (begin - part->k), from + (begin - k), (end - begin) * sizeof *from);
    else
        memset(part->to + (begin - part->k), 0, (end - begin) * sizeof *from);
}

// Where position `at` (-1 wraps around) of what the taps run over lies along one side of x, of
// `size` pixels; SIZE_MAX: outside.
static size_t find_pixel(enum conv_kind kind, size_t size, size_t at)
{
    if (kind == CONV_UP)
        return at < 2 * size ? at / 2 : SIZE_MAX;
    return at < size ? at : SIZE_MAX;
}

// The three pixels of one line (W,I) that an output sees: their columns. line NULL: outside of x.
static void gather_line(const struct part *part, size_t k, const float *line, const size_t *columns,
                        size_t I)
{
    if (!line || (columns[0] < columns[1] && columns[0] + 2 == columns[2])) {
        copy_part(part, k, line ? line + columns[0] * I : NULL, 3 * I);
        return;
    }
    for (size_t tap = 0; tap < 3; tap++)
        copy_part(part, k + tap * I, columns[tap] == SIZE_MAX ? NULL : line + columns[tap] * I, I);
}

static void gather(const struct product *product, float *to, size_t i, size_t rows, size_t k,
                   size_t K)
{
    const struct convolution *p = product->convolution;
    const bool down = p->kind == CONV_DOWN;
    for (size_t n = i; n < i + rows; n++, to += K) {
        const struct part part = {to, k, K};
        const size_t column = n % p->out_W, line = n / p->out_W, row = line % p->out_H;
        const float *x = p->x + line / p->out_H * p->H * p->W * p->I;
        const size_t first_row = down ? 2 * row : row - 1;
        const size_t first_column = down ? 2 * column : column - 1;
        size_t columns[3];
        for (size_t tap = 0; tap < 3; tap++)
            columns[tap] = find_pixel(p->kind, p->W, first_column + tap);
        for (size_t tap = 0; tap < 3; tap++) {
            const size_t from = find_pixel(p->kind, p->H, first_row + tap);
            gather_line(&part, 3 * tap * p->I, from == SIZE_MAX ? NULL : x + from * p->W * p->I,
                        columns, p->I);
        }
    }
}

// Where the transforms cost far less than the multiplications they save.
static bool is_for_winograd(const struct convolution *p)
{
    return p->I % 16 == 0 && p->O % 16 == 0 && p->I >= 32 && p->O >= 32 &&
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
    if (is_for_winograd(&p))
        CPU_FN(winograd)(device, &p);
    else
        CPU_FN(product)
    (device, &(struct product){.M = B * p.out_H * p.out_W,
                               .N = O,
                               .K = 9 * I,
                               .gather = gather,
                               .convolution = &p,
                               .b = {p.w, 1, 9 * I},
                               .c = p.y,
                               .c_row = O,
                               .start = p.sum,
                               .bias = p.bias});
}
