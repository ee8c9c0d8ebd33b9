// Matrix products. Every element is the sum over k in an order that depends on K alone: not on
// M, N, its place or the number of threads. SPDX-License-Identifier: MIT
#ifndef DIT_CPU_PRODUCT_H
#define DIT_CPU_PRODUCT_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

// Products are made of tiles of TILE_M x TILE_N, whose sums stay in registers.
#define TILE_M 6
#define TILE_N (2 * LANES)

// Element (i,j) is at[i * row + j * column].
struct matrix {
    const float *at;
    size_t row, column;
};

// C (M,N) = start + A (M,K) B (K,N) + bias, then finish.
struct product {
    size_t M, N, K;
    struct matrix a, b;
    // Where A is not in memory as such: writes columns k .. k + K - 1 of its rows i .. i + rows - 1
    // to `to` (rows,K), as they follow from `convolution`. NULL: A is a.
    void (*gather)(const struct product *p, float *to, size_t i, size_t rows, size_t k, size_t K);
    const struct convolution *convolution;
    float *c;
    size_t c_row;       // floats between its rows
    const float *start; // (M,N), rows c_row apart too, and perhaps C itself; NULL: zeros
    const float *bias;  // (N), or NULL
    // sums (M) += sum over K of A, where a.row is 1; or NULL.
    float *a_sums;
    // Works on a tile of sums (TILE_M,TILE_N) before it goes to row i, column j of C and right and
    // down of there, rows x columns of it: an activation. NULL: nothing to do.
    void (*finish)(const struct product *p, float *tile, size_t i, size_t j, size_t rows,
                   size_t columns);
    // For finish: see linear.c.
    const float *pre;
    float *pre_out;
};

void CPU_FN(product)(struct device *device, const struct product *p);

// Copies rows (rows,columns) between a tile, or a part of one, and memory.
INLINE void copy_tile(float *to, size_t to_row, const float *from, size_t from_row, size_t rows,
                      size_t columns)
{
    if (columns == TILE_N) {
        for (size_t i = 0; i < rows; i++) {
            const vec_u *x = (const vec_u *)(from + i * from_row);
            vec_u *y = (vec_u *)(to + i * to_row);
            y[0] = x[0], y[1] = x[1];
        }
        return;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            to[i * to_row + j] = from[i * from_row + j];
}

// One row of a tile, at c + at: sums + start + bias, of which the last two may be NULL.
INLINE void store_row(float *c, size_t at, vec sum0, vec sum1, const float *start,
                      const float *bias)
{
    const vec_u *from = start ? (const vec_u *)(start + at) : NULL, *add = (const vec_u *)bias;
    vec_u *to = (vec_u *)(c + at);
    if (start)
        sum0 += from[0], sum1 += from[1];
    if (bias)
        sum0 += add[0], sum1 += add[1];
    to[0] = sum0, to[1] = sum1;
}

// c (TILE_M,TILE_N) = start + bias + the sum over k < K of a[i * a_row + k * a_column] b[k * TILE_N
// + j]. Rows of c and of start (perhaps c itself, or NULL) are c_row apart; bias (TILE_N) may be
// NULL; b is aligned as vectors are. Meanwhile what begins at next (or NULL) is asked for,
// next_step floats for each k.
INLINE void tile_product_from(float *c, size_t c_row, const float *start, const float *bias,
                              size_t K, const float *a, size_t a_row, size_t a_column,
                              const float *b, const float *next, size_t next_step)
{
    vec c00 = {0}, c01 = {0}, c10 = {0}, c11 = {0}, c20 = {0}, c21 = {0};
    vec c30 = {0}, c31 = {0}, c40 = {0}, c41 = {0}, c50 = {0}, c51 = {0};
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a += a_column, b += TILE_N) {
        vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
        if (next) {
            __builtin_prefetch(next, 0, 2);
            next += next_step;
        }
        c00 = vec_multiply_add(a[0 * a_row], b0, c00);
        c01 = vec_multiply_add(a[0 * a_row], b1, c01);
        c10 = vec_multiply_add(a[1 * a_row], b0, c10);
        c11 = vec_multiply_add(a[1 * a_row], b1, c11);
        c20 = vec_multiply_add(a[2 * a_row], b0, c20);
        c21 = vec_multiply_add(a[2 * a_row], b1, c21);
        c30 = vec_multiply_add(a[3 * a_row], b0, c30);
        c31 = vec_multiply_add(a[3 * a_row], b1, c31);
        c40 = vec_multiply_add(a[4 * a_row], b0, c40);
        c41 = vec_multiply_add(a[4 * a_row], b1, c41);
        c50 = vec_multiply_add(a[5 * a_row], b0, c50);
        c51 = vec_multiply_add(a[5 * a_row], b1, c51);
    }
    store_row(c, 0 * c_row, c00, c01, start, bias);
    store_row(c, 1 * c_row, c10, c11, start, bias);
    store_row(c, 2 * c_row, c20, c21, start, bias);
    store_row(c, 3 * c_row, c30, c31, start, bias);
    store_row(c, 4 * c_row, c40, c41, start, bias);
    store_row(c, 5 * c_row, c50, c51, start, bias);
}

// c = or += the product.
INLINE void tile_product(float *c, size_t c_row, bool add, size_t K, const float *a, size_t a_row,
                         size_t a_column, const float *b)
{
    tile_product_from(c, c_row, add ? c : NULL, NULL, K, a, a_row, a_column, b, NULL, 0);
}

#endif
