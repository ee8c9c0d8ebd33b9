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

// C (M,N) = A (M,K) B (K,N), then finish.
struct product {
    size_t M, N, K;
    struct matrix a, b;
    float *c; // dense
    // Adds to what is in C.
    bool accumulate;
    // sums (M) += sum over K of A, or NULL.
    float *a_sums;
    // Writes row i, columns j .. j + n - 1 of C from the sums x: bias, activation.
    void (*finish)(const struct product *p, const float *x, size_t i, size_t j, size_t n);
    // For finish: see linear.c.
    const float *bias, *pre;
    float *pre_out;
};

void CPU_FN(product)(struct device *device, const struct product *p);

// c (TILE_M,TILE_N), its rows c_row apart, = sum over k < K of a[i * a_row + k * a_column]
// b[k * b_row + j]; b is aligned as vectors are.
INLINE void tile_product(float *c, size_t c_row, size_t K, const float *a, size_t a_row,
                         size_t a_column, const float *b, size_t b_row)
{
    vec c00 = {0}, c01 = {0}, c10 = {0}, c11 = {0}, c20 = {0}, c21 = {0};
    vec c30 = {0}, c31 = {0}, c40 = {0}, c41 = {0}, c50 = {0}, c51 = {0};
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a += a_column, b += b_row) {
        vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
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
    *(vec *)(c + 0 * c_row) = c00, *(vec *)(c + 0 * c_row + LANES) = c01;
    *(vec *)(c + 1 * c_row) = c10, *(vec *)(c + 1 * c_row + LANES) = c11;
    *(vec *)(c + 2 * c_row) = c20, *(vec *)(c + 2 * c_row + LANES) = c21;
    *(vec *)(c + 3 * c_row) = c30, *(vec *)(c + 3 * c_row + LANES) = c31;
    *(vec *)(c + 4 * c_row) = c40, *(vec *)(c + 4 * c_row + LANES) = c41;
    *(vec *)(c + 5 * c_row) = c50, *(vec *)(c + 5 * c_row + LANES) = c51;
}

#endif
