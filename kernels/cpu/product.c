// Blocks of matrices are copied ("packed") so that tiles read them in sequence: Goto and van de
// Geijn, "Anatomy of high-performance matrix multiplication", 2008. A strip of B (BLOCK_K x TILE_N)
// stays in the first-level cache while the panels of a block of A pass, which stays in the second.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/product.h"

#include <omp.h>

#define BLOCK_K  384
#define BLOCK_M  144               // a multiple of TILE_M
#define PACKED_B ((size_t)4 << 20) // floats of B packed at a time, about

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t divide_up(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

// to[k * width + j] = element (k,j) of `from`, zeros from column n on.
INLINE void pack(float *to, struct matrix from, size_t K, size_t n, size_t width)
{
    if (n < width) {
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < width; j++)
                to[k * width + j] = j < n ? from.at[k * from.row + j * from.column] : 0;
    } else if (from.column == 1) {
        for (size_t k = 0; k < K; k++)
            memcpy(to + k * width, from.at + k * from.row, width * sizeof *to);
    } else {
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < width; j++)
                to[k * width + j] = from.at[k * from.row + j * from.column];
    }
}

// sums (n) += the columns of a packed panel (K,TILE_M).
static void add_sums(float *sums, const float *panel, size_t K, size_t n)
{
    float total[4][TILE_M] = {0};
    for (size_t k = 0; k < K; k++)
        for (size_t i = 0; i < TILE_M; i++)
            total[k % 4][i] += panel[k * TILE_M + i];
    for (size_t i = 0; i < n; i++)
        sums[i] += (total[0][i] + total[1][i]) + (total[2][i] + total[3][i]);
}

static void add_bias(float *tile, const float *from, size_t columns)
{
    float bias[TILE_N] __attribute__((aligned(64))) = {0};
    copy_tile(bias, TILE_N, from, 0, 1, columns);
    for (size_t row = 0; row < TILE_M; row++)
        for (size_t n = 0; n < TILE_N; n++)
            tile[row * TILE_N + n] += bias[n];
}

// What one call of work_block does.
struct block {
    size_t i, j, k; // its first element
    size_t M, N, K;
};

// One block of C from the packed B.
static void work_block(const struct product *p, const struct block *block, float *packed_a,
                       const float *packed_b)
{
    const struct block s = *block;
    // Whole panels of a matrix whose rows lie along k are read from where they are.
    const bool in_place = !p->gather && p->a.column == 1 && !p->a_sums;
    const float *a = p->a.at + s.i * p->a.row + s.k * p->a.column;
    for (size_t i = 0; i < s.M; i += TILE_M) {
        const size_t rows = min(TILE_M, s.M - i);
        if (in_place && rows == TILE_M)
            continue;
        if (p->gather) {
            p->gather(p, packed_a + i * s.K, s.i + i, rows, s.k, s.K);
            memset(packed_a + (i + rows) * s.K, 0, (TILE_M - rows) * s.K * sizeof *packed_a);
            continue;
        }
        const struct matrix panel = {a + i * p->a.row, p->a.column, p->a.row};
        pack(packed_a + i * s.K, panel, s.K, rows, TILE_M);
        if (p->a_sums && s.j == 0)
            add_sums(p->a_sums + s.i + i, packed_a + i * s.K, s.K, rows);
    }
    const float *start = s.k > 0 ? p->c : p->start;
    const bool last = s.k + s.K == p->K;
    for (size_t j = s.j; j < s.j + s.N; j += TILE_N) {
        size_t columns = min(TILE_N, p->N - j);
        for (size_t i = 0; i < s.M; i += TILE_M) {
            const size_t rows = min(TILE_M, s.M - i);
            float tile[TILE_M * TILE_N] __attribute__((aligned(64)));
            const size_t at = (s.i + i) * p->c_row + j;
            float *c = p->c + at;
            for (size_t row = 0; row < rows; row++) {
                __builtin_prefetch(c + row * p->c_row, 1);
                if (p->pre)
                    __builtin_prefetch(p->pre + (s.i + i + row) * p->N + j);
            }
            if (start)
                copy_tile(tile, TILE_N, start + at, p->c_row, rows, columns);
            if (in_place && rows == TILE_M)
                tile_product(tile, TILE_N, start, s.K, a + i * p->a.row, p->a.row, 1,
                             packed_b + j * s.K);
            else if (p->gather)
                tile_product(tile, TILE_N, start, s.K, packed_a + i * s.K, s.K, 1,
                             packed_b + j * s.K);
            else
                tile_product(tile, TILE_N, start, s.K, packed_a + i * s.K, 1, TILE_M,
                             packed_b + j * s.K);
            if (last && p->bias)
                add_bias(tile, p->bias + j, columns);
            if (last && p->finish)
                p->finish(p, tile, s.i + i, j, rows, columns);
            copy_tile(c, p->c_row, tile, TILE_N, rows, columns);
        }
    }
}

void CPU_FN(product)(struct device *device, const struct product *p)
{
    if (p->M == 0 || p->N == 0)
        return;
    const size_t threads = (size_t)device->threads;
    // Blocks of rows, as many as keep all threads busy to the end; if they are few, of columns too.
    const size_t panels = divide_up(p->M, TILE_M), strips = divide_up(p->N, TILE_N);
    const size_t wanted = round_up(divide_up(p->M, BLOCK_M), threads);
    const size_t block_m = divide_up(panels, min(panels, wanted)) * TILE_M;
    const size_t m_blocks = divide_up(p->M, block_m);
    const size_t parts = m_blocks >= threads ? 1 : min(strips, divide_up(2 * threads, m_blocks));
    const size_t block_n = divide_up(strips, parts) * TILE_N;
    const size_t n_blocks = divide_up(p->N, block_n);
    // The depth for which B is packed at once.
    const size_t N = strips * TILE_N;
    const size_t depth = min(p->K, (1 + PACKED_B / (N * BLOCK_K)) * BLOCK_K);
    const size_t packed_a_size = round_up(block_m * BLOCK_K, 16);
    float *packed_b = CPU_FN(scratch)(device, N * depth + threads * packed_a_size);
    if (!packed_b)
        return;
    float *packed_a = packed_b + N * depth;

#pragma omp parallel num_threads(threads_for(device, p->M * p->N * p->K / 32))
    for (size_t k0 = 0; k0 < p->K; k0 += depth) {
        const size_t k_end = min(p->K, k0 + depth);
#pragma omp for schedule(static)
        for (size_t j = 0; j < N; j += TILE_N)
            for (size_t k = k0; k < k_end; k += BLOCK_K) {
                size_t K = min(BLOCK_K, k_end - k);
                const float *at = p->b.at + k * p->b.row + j * p->b.column;
                pack(packed_b + (k - k0) * N + j * K, (struct matrix){at, p->b.row, p->b.column}, K,
                     min(TILE_N, p->N - j), TILE_N);
            }
#pragma omp for schedule(dynamic)
        for (size_t n = 0; n < m_blocks * n_blocks; n++) {
            struct block s = {.i = n % m_blocks * block_m, .j = n / m_blocks * block_n};
            s.M = min(block_m, p->M - s.i);
            s.N = min(block_n, p->N - s.j);
            for (s.k = k0; s.k < k_end; s.k += s.K) {
                s.K = min(BLOCK_K, k_end - s.k);
                float *own = packed_a + (size_t)omp_get_thread_num() * packed_a_size;
                work_block(p, &s, own, packed_b + (s.k - k0) * N);
            }
        }
    }
}
