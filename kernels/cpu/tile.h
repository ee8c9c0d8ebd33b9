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

// The sums of a tile, which the compiler keeps in registers: = 0.
INLINE void clear_sums(vec sums[TILE_M][2])
{
#pragma GCC unroll 12
    for (size_t i = 0; i < TILE_M; i++)
        sums[i][0] = sums[i][1] = vec_of(0);
}

// sums += a[i * a_row] b[j] for the rows i and columns j of the tile, of words (real.h) or of
// floats. b is aligned as vectors are.
INLINE void add_products(vec sums[TILE_M][2], bool words, const float *a, size_t a_row,
                         const float *b)
{
    const vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
#pragma GCC unroll 12
    for (size_t i = 0; i < TILE_M; i++, a += a_row) {
        sums[i][0] = words ? vec_add_word(sums[i][0], a, b0) : vec_multiply_add(*a, b0, sums[i][0]);
        sums[i][1] = words ? vec_add_word(sums[i][1], a, b1) : vec_multiply_add(*a, b1, sums[i][1]);
    }
}

// c (TILE_M,TILE_N) = sums + start + bias. Rows of c and of start are c_row apart; start may be c
// itself, or NULL for zeros. bias (TILE_N) may be NULL.
INLINE void store_sums(float *c, size_t c_row, vec sums[TILE_M][2], const float *start,
                       const real *bias)
{
#pragma GCC unroll 12
    for (size_t i = 0; i < TILE_M; i++, c += c_row) {
        vec sum0 = sums[i][0], sum1 = sums[i][1];
        if (start) {
            sum0 += vec_load(start), sum1 += vec_load(start + LANES);
            start += c_row;
        }
        if (bias)
            sum0 += vec_load_real(bias), sum1 += vec_load_real(bias + LANES);
        vec_store(c, sum0);
        vec_store(c + LANES, sum1);
    }
}

#endif
