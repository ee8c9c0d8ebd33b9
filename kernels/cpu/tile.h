// The micro-kernel of matrix products: one tile of the result, whose sums stay in registers.
// SPDX-License-Identifier: MIT
#ifndef DIT_CPU_TILE_H
#define DIT_CPU_TILE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

// Rows and columns of a tile: its 12 sums, 2 vectors of B and one of A fill 15 registers.
#define TILE_M 6
#define TILE_N (2 * LANES)

// Copies rows (rows,columns) between a tile, or a part of one, and memory; columns <= TILE_N.
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

// Stores one row of a tile at c + at: sums + start + bias. start and bias may be NULL.
INLINE void store_tile_row(float *c, size_t at, vec sum0, vec sum1, const float *start,
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

// c (TILE_M,TILE_N) = start + bias + the sum over k < K of
// a[i * a_row + k * a_column] b[k * TILE_N + j].
// Rows of c and of start are c_row apart; start may be c itself, or NULL for zeros. bias (TILE_N)
// may be NULL. b is aligned as vectors are. With each k the line at `ahead` is prefetched, and
// `ahead` moves on by ahead_step floats; NULL: nothing is.
INLINE void multiply_tile(float *c, size_t c_row, const float *start, const float *bias, size_t K,
                          const float *a, size_t a_row, size_t a_column, const float *b,
                          const float *ahead, size_t ahead_step)
{
    vec c00 = {0}, c01 = {0}, c10 = {0}, c11 = {0}, c20 = {0}, c21 = {0};
    vec c30 = {0}, c31 = {0}, c40 = {0}, c41 = {0}, c50 = {0}, c51 = {0};
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a += a_column, b += TILE_N) {
        vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
        if (ahead) {
            __builtin_prefetch(ahead, 0, 2);
            ahead += ahead_step;
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
    store_tile_row(c, 0 * c_row, c00, c01, start, bias);
    store_tile_row(c, 1 * c_row, c10, c11, start, bias);
    store_tile_row(c, 2 * c_row, c20, c21, start, bias);
    store_tile_row(c, 3 * c_row, c30, c31, start, bias);
    store_tile_row(c, 4 * c_row, c40, c41, start, bias);
    store_tile_row(c, 5 * c_row, c50, c51, start, bias);
}

#endif
