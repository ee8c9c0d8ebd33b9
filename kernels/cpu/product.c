// Blocks of matrices are copied ("packed") so that tiles read them in sequence: Goto and van de
// Geijn, "Anatomy of high-performance matrix multiplication", 2008. A strip of B (BLOCK_K x TILE_N)
// stays in the first-level cache while the panels of a block of A pass, which stays in the second.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/product.h"

#include <omp.h>

#define BLOCK_K  384
#define BLOCK_M  144               // a multiple of TILE_M
#define GROUP_N  (4 * TILE_N)      // columns of B packed together
#define PACKED_B ((size_t)4 << 20) // floats of B packed at a time, about
#define AHEAD    8                 // rows: where they are far apart the processor foresees nothing

static size_t divide_up(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

// Asks for n floats from memory.
INLINE void prefetch(const float *from, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        __builtin_prefetch(from + i);
}

// Strips (K,TILE_N), one behind the other, of element (k,j) of `from` for k < K, j < N.
static void pack_strips(float *to, struct matrix from, size_t K, size_t N)
{
    const size_t whole = N / TILE_N * TILE_N;
    if (from.column == 1)
        for (size_t k = 0; k < K; k++) {
            const float *row = from.at + k * from.row;
            prefetch(row + AHEAD * from.row, whole);
            for (size_t j = 0; j < whole; j += TILE_N)
                memcpy(to + j * K + k * TILE_N, row + j, TILE_N * sizeof *to);
        }
    else
        for (size_t j = 0; j < whole; j += TILE_N)
            transpose(to + j * K, TILE_N, from.at + j * from.column, from.column, TILE_N, K);
    if (whole < N)
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < TILE_N; j++)
                to[whole * K + k * TILE_N + j] =
                    whole + j < N ? from.at[k * from.row + (whole + j) * from.column] : 0;
}

// A panel (K,TILE_M) of `rows` rows along k, `stride` apart; the last stands in for those missing.
static void pack_rows(float *to, const float *from, size_t stride, size_t rows, size_t K)
{
    const float *row[TILE_M];
    for (size_t i = 0; i < TILE_M; i++)
        row[i] = from + min(i, rows - 1) * stride;
    size_t k = 0;
#if LANES >= TILE_M
    // What a vector holds too much the next overwrites; so that the last ones are left over.
    for (; k + LANES < K; k += LANES) {
        vec block[LANES] = {{0}};
        for (size_t i = 0; i < TILE_M; i++) {
            block[i] = *(const vec_u *)(row[i] + k);
            __builtin_prefetch(row[i] + TILE_M * stride + k);
        }
        vec_transpose(block);
        for (size_t i = 0; i < LANES; i++)
            *(vec_u *)(to + (k + i) * TILE_M) = block[i];
    }
#endif
    for (; k < K; k++)
        for (size_t i = 0; i < TILE_M; i++)
            to[k * TILE_M + i] = row[i][k];
}

// Panels (K,TILE_M), one behind the other, of M elements next to each other for each k, `stride`
// apart. sums (M) += the sums over k, or NULL.
static void pack_columns(float *to, const float *from, size_t stride, size_t M, size_t K,
                         float *sums)
{
    const size_t whole = M / TILE_M * TILE_M;
    float total[BLOCK_M] = {0};
    for (size_t k = 0; k < K; k++, from += stride) {
        prefetch(from + AHEAD * stride, M);
        for (size_t i = 0; i < whole; i += TILE_M)
            memcpy(to + i * K + k * TILE_M, from + i, TILE_M * sizeof *to);
        for (size_t i = whole; i < M || i % TILE_M; i++)
            to[whole * K + k * TILE_M + i - whole] = i < M ? from[i] : 0;
        if (sums)
#pragma omp simd
            for (size_t i = 0; i < M; i++)
                total[i] += from[i];
    }
    for (size_t i = 0; sums && i < M; i++)
        sums[i] += total[i];
}

// One tile of C.
struct tile {
    float *c;
    size_t c_row;
    const float *start, *bias; // or NULL
    const float *a;
    size_t a_row; // 0: a is a packed panel, else its rows are so far apart
    const float *b;
    const float *next; // what to ask for meanwhile, this many floats further on for each k
    size_t next_step;
};

// Functions of their own: where they are inlined the compiler runs out of registers.
__attribute__((noinline)) static void multiply_rows(const struct tile *t, size_t K)
{
    tile_product_from(t->c, t->c_row, t->start, t->bias, K, t->a, t->a_row, 1, t->b, t->next,
                      t->next_step);
}
__attribute__((noinline)) static void multiply_panel(const struct tile *t, size_t K)
{
    tile_product_from(t->c, t->c_row, t->start, t->bias, K, t->a, 1, TILE_M, t->b, t->next,
                      t->next_step);
}
INLINE void multiply(const struct tile *t, size_t K)
{
    if (t->a_row)
        multiply_rows(t, K);
    else
        multiply_panel(t, K);
}

// A tile of which only rows x columns are in C, or which has to be finished: made elsewhere first.
static void multiply_aside(const struct product *p, const struct tile *t, size_t i, size_t j,
                           size_t rows, size_t columns, bool finish, size_t K)
{
    float sums[TILE_M * TILE_N] __attribute__((aligned(64)));
    float bias[TILE_N] __attribute__((aligned(64)));
    struct tile aside = *t;
    aside.c = sums, aside.c_row = TILE_N;
    if (t->start) {
        copy_tile(sums, TILE_N, t->start, t->c_row, rows, columns);
        aside.start = sums;
    }
    if (t->bias) {
        copy_tile(bias, TILE_N, t->bias, 0, 1, columns);
        aside.bias = bias;
    }
    multiply(&aside, K);
    if (finish)
        p->finish(p, sums, i, j, rows, columns);
    copy_tile(t->c, t->c_row, sums, TILE_N, rows, columns);
}

// What one call of work_block does.
struct block {
    size_t i, j, k; // its first element
    size_t M, N, K;
    float *packed_a; // of this thread
    // B's strips; or NULL, and group_b of this thread holds GROUP_N columns at a time.
    const float *packed_b;
    float *group_b;
};

static struct matrix part_of(const struct matrix *m, size_t row, size_t column)
{
    return (struct matrix){m->at + row * m->row + column * m->column, m->row, m->column};
}

static void pack_a(const struct product *p, const struct block *s)
{
    const struct matrix a = part_of(&p->a, s->i, s->k);
    if (p->gather) {
        p->gather(p, s->packed_a, s->i, s->M, s->k, s->K);
        memset(s->packed_a + s->M * s->K, 0,
               (round_up(s->M, TILE_M) - s->M) * s->K * sizeof *s->packed_a);
    } else if (a.row == 1) {
        pack_columns(s->packed_a, a.at, a.column, s->M, s->K,
                     s->j == 0 && p->a_sums ? p->a_sums + s->i : NULL);
    } else {
        for (size_t i = 0; i < s->M; i += TILE_M)
            pack_rows(s->packed_a + i * s->K, a.at + i * a.row, a.row, min(TILE_M, s->M - i), s->K);
    }
}

// Asks for what a tile of C changes.
INLINE void prefetch_tile(const struct product *p, size_t i, size_t j)
{
    for (size_t row = i; row < i + TILE_M; row++) {
        __builtin_prefetch(p->c + row * p->c_row + j, 1);
        if (p->pre)
            __builtin_prefetch(p->pre + row * p->N + j);
        if (p->pre_out)
            __builtin_prefetch(p->pre_out + row * p->N + j, 1);
    }
}

static void work_block(const struct product *p, const struct block *block)
{
    const struct block s = *block;
    const bool last = s.k + s.K == p->K, finish = last && p->finish;
    const float *start = s.k > 0 ? p->c : p->start;
    const size_t next_step = divide_up(TILE_N, divide_up(s.M, TILE_M)); // all of the next strip
    pack_a(p, block);
    for (size_t j = s.j; j < s.j + s.N; j += TILE_N) {
        const size_t columns = min(TILE_N, p->N - j), in_group = (j - s.j) % GROUP_N;
        if (!s.packed_b && in_group == 0)
            pack_strips(s.group_b, part_of(&p->b, s.k, j), s.K,
                        min(GROUP_N, min(s.j + s.N, p->N) - j));
        const float *b = s.packed_b ? s.packed_b + j * s.K : s.group_b + in_group * s.K;
        for (size_t i = 0; i < s.M; i += TILE_M) {
            const size_t rows = min(TILE_M, s.M - i), at = (s.i + i) * p->c_row + j;
            const struct tile t = {.c = p->c + at,
                                   .c_row = p->c_row,
                                   .start = start ? start + at : NULL,
                                   .bias = last && p->bias ? p->bias + j : NULL,
                                   .a = s.packed_a + i * s.K,
                                   .a_row = p->gather ? s.K : 0,
                                   .b = b,
                                   .next = b + s.K * TILE_N + i / TILE_M * s.K * next_step,
                                   .next_step = next_step};
            prefetch_tile(p, s.i + i, j);
            if (rows == TILE_M && columns == TILE_N && !finish)
                multiply(&t, s.K);
            else
                multiply_aside(p, &t, s.i + i, j, rows, columns, finish, s.K);
        }
    }
}

void CPU_FN(product)(struct device *device, const struct product *p)
{
    if (p->M == 0 || p->N == 0)
        return;
    const size_t threads = (size_t)device->threads;
    const size_t panels = divide_up(p->M, TILE_M), strips = divide_up(p->N, TILE_N);
    // Blocks of rows, as many as keep all threads busy to the end, share the packed B. Where a
    // single one would do it is cut into columns, which who works on them packs.
    const bool shared = p->M > BLOCK_M;
    const size_t m_blocks = shared ? min(panels, round_up(divide_up(p->M, BLOCK_M), threads)) : 1;
    const size_t n_blocks = shared ? 1 : min(strips, 4 * threads);
    // The depth for which B is packed at once.
    const size_t N = strips * TILE_N;
    const size_t depth = shared ? min(p->K, (1 + PACKED_B / (N * BLOCK_K)) * BLOCK_K) : p->K;
    const size_t packed_a_size = round_up(divide_up(panels, m_blocks) * TILE_M * BLOCK_K, 16);
    const size_t own_size = packed_a_size + (shared ? 0 : GROUP_N * BLOCK_K);
    float *scratch = CPU_FN(scratch)(device, threads * own_size + (shared ? N * depth : 0));
    if (!scratch)
        return;
    float *packed_b = shared ? scratch + threads * own_size : NULL;

#pragma omp parallel num_threads(threads_for(device, p->M * p->N * p->K / 32))
    for (size_t k0 = 0; k0 < p->K; k0 += depth) {
        const size_t k_end = min(p->K, k0 + depth);
        if (shared)
#pragma omp for collapse(2)
            for (size_t k = k0; k < k_end; k += BLOCK_K)
                for (size_t j = 0; j < N; j += GROUP_N) {
                    const size_t K = min(BLOCK_K, k_end - k);
                    pack_strips(packed_b + (k - k0) * N + j * K, part_of(&p->b, k, j), K,
                                min(GROUP_N, p->N - j));
                }
#pragma omp for schedule(dynamic)
        for (size_t n = 0; n < m_blocks * n_blocks; n++) {
            const size_t m = n % m_blocks;
            float *own = scratch + (size_t)omp_get_thread_num() * own_size;
            struct block s = {.packed_a = own, .group_b = own + packed_a_size};
            s.i = m * panels / m_blocks * TILE_M;
            s.M = min(p->M, (m + 1) * panels / m_blocks * TILE_M) - s.i;
            s.j = n / m_blocks * strips / n_blocks * TILE_N;
            s.N = (n / m_blocks + 1) * strips / n_blocks * TILE_N - s.j;
            for (s.k = k0; s.k < k_end; s.k += s.K) {
                s.K = min(BLOCK_K, k_end - s.k);
                s.packed_b = packed_b ? packed_b + (s.k - k0) * N : NULL;
                work_block(p, &s);
            }
        }
    }
}
