// Matrix products in float64, for statistics. SPDX-License-Identifier: MIT
//
// Rows of both factors are contiguous, so that an element is a dot product; a block of 4 x 3 of
// them keeps its sums in registers.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#define ACROSS_F64 (LANES / 2)
#define TILE_R     4
#define TILE_O     3
#define BLOCK_I    512 // columns at a time, of which BLOCK_O rows of b stay in the cache
#define BLOCK_O    96
#define BLOCK_R    32 // rows of c that a thread takes

typedef double vec_f64 __attribute__((vector_size(4 * LANES), aligned(8), may_alias));

// c += the dot products of 4 rows of a and 3 rows of b; those past the last repeat it, and are
// dropped. The sums of a row of a and one of b are the same wherever they stand.
INLINE void add_dots(double *c, size_t c_row, const double *a, const double *b, size_t row,
                     size_t n, size_t rows, size_t columns)
{
    const double *at[TILE_R], *bt[TILE_O];
    vec_f64 sums[TILE_R][TILE_O] = {{{0}}};
    for (size_t r = 0; r < TILE_R; r++)
        at[r] = a + min(r, rows - 1) * row;
    for (size_t o = 0; o < TILE_O; o++)
        bt[o] = b + min(o, columns - 1) * row;
    size_t i = 0;
    for (; i + ACROSS_F64 <= n; i += ACROSS_F64) {
        vec_f64 across[TILE_O];
#pragma GCC unroll 3
        for (size_t o = 0; o < TILE_O; o++)
            across[o] = *(const vec_f64 *)(bt[o] + i);
#pragma GCC unroll 4
        for (size_t r = 0; r < TILE_R; r++) {
            const vec_f64 down = *(const vec_f64 *)(at[r] + i);
#pragma GCC unroll 3
            for (size_t o = 0; o < TILE_O; o++)
                sums[r][o] += down * across[o];
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < columns; o++) {
            double sum = 0;
            for (size_t l = 0; l < ACROSS_F64; l++)
                sum += sums[r][o][l];
            for (size_t k = i; k < n; k++)
                sum += at[r][k] * bt[o][k];
            c[r * c_row + o] += sum;
        }
}

struct product_f64 {
    double *c;
    const double *a, *b;
    size_t R, I, O;
};

// Blocks of BLOCK_R rows of c.
static void multiply_rows_f64(const void *context, struct team_range range)
{
    const struct product_f64 *p = context;
    const size_t I = p->I, O = p->O, end = min(p->R, range.end * BLOCK_R);
    for (size_t i = 0; i < I; i += BLOCK_I)
        for (size_t block = 0; block < O; block += BLOCK_O)
            for (size_t r = range.first * BLOCK_R; r < end; r += TILE_R)
                for (size_t o = block; o < min(O, block + BLOCK_O); o += TILE_O)
                    add_dots(p->c + r * O + o, O, p->a + r * I + i, p->b + o * I + i, I,
                             min(BLOCK_I, I - i), min(TILE_R, end - r),
                             min(TILE_O, min(O, block + BLOCK_O) - o));
}

void ISA_FN(product_f64)(struct device *device, double *c, const double *a, const double *b,
                         size_t R, size_t I, size_t O)
{
    const struct product_f64 p = {c, a, b, R, I, O};
    team_for(team_of(device, R * I * O / 16), divide_up(R, BLOCK_R), 1, multiply_rows_f64, &p);
}
