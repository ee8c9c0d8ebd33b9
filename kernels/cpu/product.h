// Matrix products (GEMM) with a fused epilogue. Every element is a sum over k in an order that
// depends on K alone: its bits don't depend on M, N, its position or the number of threads. Sums
// are float32 until the epilogue has changed them.
// SPDX-License-Identifier: MIT
#ifndef DIT_CPU_PRODUCT_H
#define DIT_CPU_PRODUCT_H

#include "kernels/cpu/real.h"

// Element (i,j) is at[i * row + j * column]. One of row and column is 1.
struct matrix {
    const real *at;
    size_t row, column;
};

// C (M,N) = epilogue(start + A (M,K) B (K,N) + bias).
struct product {
    size_t M, N, K;
    struct matrix a, b;
    // Where A is not stored: writes columns k .. k + K - 1 of its rows i .. i + rows - 1, computed
    // from a_source, to the rows of `to`, which are to_row apart. NULL: A is `a`.
    void (*fill_a)(const void *a_source, word_part *to, size_t to_row, size_t i, size_t rows,
                   size_t k, size_t K);
    const void *a_source;
    real *c;
    float *dw;         // in place of c: C in float32, to which the products are added
    size_t c_row;      // elements between rows of C
    const real *start; // (M,N), its rows c_row apart as well, perhaps c itself; NULL: zeros
    const real *bias;  // (N), or NULL
    // row_sums (M) += the sum of each row of A, only if a.row is 1; or NULL.
    float *row_sums;
    // The epilogue, such as an activation: changes a tile of sums (TILE_M,TILE_N) in place before
    // its first (rows,columns) are stored at row i, column j of C. NULL: none.
    void (*epilogue)(const struct product *p, float *tile, size_t i, size_t j, size_t rows,
                     size_t columns);
    // What the epilogue reads and writes beside the tile: (M,N), prefetched with C; or NULL.
    const real *epilogue_in;
    real *epilogue_out;
};

void CPU_FN(product)(struct device *device, const struct product *p);

#endif
