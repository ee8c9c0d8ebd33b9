// The micro-kernel of matrix products: one tile of the result, whose sums stay in registers.
// SPDX-License-Identifier: MIT
#ifndef DIT_CPU_TILE_H
#define DIT_CPU_TILE_H

#include "kernels/cpu/real.h"

// Rows and columns of a tile. Two vectors for each row are its sums, two are of B, one or more of
// A: 15 of 16 registers, or 27 of 32. More rows read B less often.
#if REGISTERS == 32
#define TILE_M 12
#else
#define TILE_M 6
#endif
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

// The same between a tile and activations.
INLINE void load_tile(float *to, size_t to_row, const real *from, size_t from_row, size_t rows,
                      size_t columns)
{
    for (size_t i = 0; i < rows; i++)
        if (columns == TILE_N) {
            vec_store(to + i * to_row, vec_load_real(from + i * from_row));
            vec_store(to + i * to_row + LANES, vec_load_real(from + i * from_row + LANES));
        } else {
            for (size_t j = 0; j < columns; j++)
                to[i * to_row + j] = to_float(from[i * from_row + j]);
        }
}
INLINE void store_tile(real *to, size_t to_row, const float *from, size_t from_row, size_t rows,
                       size_t columns)
{
    for (size_t i = 0; i < rows; i++)
        if (columns == TILE_N) {
            vec_store_real(to + i * to_row, vec_load(from + i * from_row));
            vec_store_real(to + i * to_row + LANES, vec_load(from + i * from_row + LANES));
        } else {
            for (size_t j = 0; j < columns; j++)
                to[i * to_row + j] = to_real(from[i * from_row + j]);
        }
}

// Stores one row of a tile at c + at: sums + start + bias. start and bias may be NULL.
INLINE void store_tile_row(float *c, size_t at, vec sum0, vec sum1, const float *start,
                           const real *bias)
{
    if (start)
        sum0 += vec_load(start + at), sum1 += vec_load(start + at + LANES);
    if (bias)
        sum0 += vec_load_real(bias), sum1 += vec_load_real(bias + LANES);
    vec_store(c + at, sum0);
    vec_store(c + at + LANES, sum1);
}

// c (TILE_M,TILE_N) = start + bias + the sum over k < K of
// a[i * a_row + k * a_column] b[k * TILE_N + j], of floats or of words (real.h).
// Rows of c and of start are c_row apart; start may be c itself, or NULL for zeros. bias (TILE_N)
// may be NULL. b is aligned as vectors are. With each k the line at `ahead` is prefetched, and
// `ahead` moves on by ahead_step floats; NULL: nothing is.
INLINE void multiply_tile(float *c, size_t c_row, const float *start, const real *bias, size_t K,
                          bool words, const float *a, size_t a_row, size_t a_column, const float *b,
                          const float *ahead, size_t ahead_step)
{
    vec sums[TILE_M][2];
#pragma GCC unroll 12
    for (size_t i = 0; i < TILE_M; i++)
        sums[i][0] = sums[i][1] = vec_of(0);
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a += a_column, b += TILE_N) {
        const vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
        if (ahead) {
            __builtin_prefetch(ahead, 0, 2);
            ahead += ahead_step;
        }
#pragma GCC unroll 12
        for (size_t i = 0; i < TILE_M; i++)
            if (words) {
                sums[i][0] = vec_add_word(sums[i][0], a + i * a_row, b0);
                sums[i][1] = vec_add_word(sums[i][1], a + i * a_row, b1);
            } else {
                sums[i][0] = vec_multiply_add(a[i * a_row], b0, sums[i][0]);
                sums[i][1] = vec_multiply_add(a[i * a_row], b1, sums[i][1]);
            }
    }
#pragma GCC unroll 12
    for (size_t i = 0; i < TILE_M; i++)
        store_tile_row(c, i * c_row, sums[i][0], sums[i][1], start, bias);
}

#endif
