// Matrix products by packed panels: Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", 2008. SPDX-License-Identifier: MIT
//
// Blocks of A and B are copied ("packed") into panels that the micro-kernel (tile.h) reads in
// sequence. A panel of B (BLOCK_K,TILE_N) stays in the first-level cache while the panels of a
// block of A, which stays in the second-level cache, pass by.
#include "kernels/cpu/product.h"

#include "kernels/cpu/tile.h"

#define BLOCK_K  384
#define BLOCK_M  144               // a multiple of TILE_M, 6 or 12
#define GROUP_N  (4 * TILE_N)      // columns of B packed at a time
#define PACKED_B ((size_t)4 << 20) // floats of B that are packed at once, roughly
// Rows to prefetch ahead: the hardware prefetcher doesn't follow strides this large.
#define PREFETCH_ROWS 8

// Packs b (K,N) into panels (K,TILE_N), one after the other, the last padded with zeros.
static void pack_b(float *to, struct matrix b, size_t K, size_t N)
{
    const size_t whole = N / TILE_N * TILE_N;
    if (b.column == 1)
        for (size_t k = 0; k < K; k++) {
            const float *row = b.at + k * b.row;
            prefetch_floats(row + PREFETCH_ROWS * b.row, whole);
            for (size_t j = 0; j < whole; j += TILE_N)
                memcpy(to + j * K + k * TILE_N, row + j, TILE_N * sizeof *to);
        }
    else
        for (size_t j = 0; j < whole; j += TILE_N)
            transpose(to + j * K, TILE_N, b.at + j * b.column, b.column, TILE_N, K);
    if (whole < N)
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < TILE_N; j++)
                to[whole * K + k * TILE_N + j] =
                    whole + j < N ? b.at[k * b.row + (whole + j) * b.column] : 0;
}

// Packs `rows` rows of A, each contiguous and `stride` apart, into a panel (K,TILE_M); the last row
// is repeated for those missing.
static void pack_a_rows(float *to, const float *from, size_t stride, size_t rows, size_t K)
{
    const float *row[TILE_M];
    for (size_t i = 0; i < TILE_M; i++)
        row[i] = from + min(i, rows - 1) * stride;
    size_t k = 0;
    // LANES rows of A make a part of each row of the panel. The last part may spill past its row of
    // TILE_M, and the next row overwrites the spill. So the last row is left to the loop below.
    enum { PARTS = (TILE_M + LANES - 1) / LANES };
    for (; k + LANES < K; k += LANES) {
        vec block[PARTS * LANES] = {{0}};
        for (size_t i = 0; i < TILE_M; i++) {
            block[i] = *(const vec_u *)(row[i] + k);
            __builtin_prefetch(row[i] + TILE_M * stride + k);
        }
        for (size_t part = 0; part < PARTS; part++)
            vec_transpose(block + part * LANES);
        for (size_t i = 0; i < LANES; i++)
            for (size_t part = 0; part < PARTS; part++)
                *(vec_u *)(to + (k + i) * TILE_M + part * LANES) = block[part * LANES + i];
    }
    for (; k < K; k++)
        for (size_t i = 0; i < TILE_M; i++)
            to[k * TILE_M + i] = row[i][k];
}

// Packs M rows of A into panels (K,TILE_M), one after the other, the last padded with zeros. Here
// the columns of A are contiguous, and `stride` apart. sums (M) += the sum of each row; NULL: it is
// not needed.
static void pack_a_columns(float *to, const float *from, size_t stride, size_t M, size_t K,
                           float *sums)
{
    const size_t whole = M / TILE_M * TILE_M;
    float total[BLOCK_M] = {0};
    for (size_t k = 0; k < K; k++, from += stride) {
        prefetch_floats(from + PREFETCH_ROWS * stride, M);
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

// One tile of C: the arguments of multiply_tile.
struct product_tile {
    float *c;
    size_t c_row;
    const float *start, *bias; // or NULL
    const float *a;
    size_t a_row; // floats between rows of a; 0: a is a packed panel
    const float *b;
    const float *ahead;
    size_t ahead_step;
};

// Not inlined: in a larger function the compiler runs out of registers.
__attribute__((noinline)) static void multiply_tile_rows(const struct product_tile *t, size_t K)
{
    multiply_tile(t->c, t->c_row, t->start, t->bias, K, t->a, t->a_row, 1, t->b, t->ahead,
                  t->ahead_step);
}
__attribute__((noinline)) static void multiply_tile_panel(const struct product_tile *t, size_t K)
{
    multiply_tile(t->c, t->c_row, t->start, t->bias, K, t->a, 1, TILE_M, t->b, t->ahead,
                  t->ahead_step);
}
INLINE void multiply_whole_tile(const struct product_tile *t, size_t K)
{
    if (t->a_row)
        multiply_tile_rows(t, K);
    else
        multiply_tile_panel(t, K);
}

// A tile that reaches past the last row or column of C, or that the epilogue changes: it is
// computed in a buffer, of which rows x columns are then copied to C.
static void multiply_buffered_tile(const struct product *p, const struct product_tile *t, size_t i,
                                   size_t j, size_t rows, size_t columns, bool epilogue, size_t K)
{
    float sums[TILE_M * TILE_N] __attribute__((aligned(64)));
    float bias[TILE_N] __attribute__((aligned(64)));
    struct product_tile buffered = *t;
    buffered.c = sums, buffered.c_row = TILE_N;
    if (t->start) {
        copy_tile(sums, TILE_N, t->start, t->c_row, rows, columns);
        buffered.start = sums;
    }
    if (t->bias) {
        copy_tile(bias, TILE_N, t->bias, 0, 1, columns);
        buffered.bias = bias;
    }
    multiply_whole_tile(&buffered, K);
    if (epilogue)
        p->epilogue(p, sums, i, j, rows, columns);
    copy_tile(t->c, t->c_row, sums, TILE_N, rows, columns);
}

// What one call of multiply_block computes: rows i .. i + M - 1 and columns j .. j + N - 1 of C,
// summed over k .. k + K - 1.
struct product_block {
    size_t i, j, k;
    size_t M, N, K;
    float *packed_a; // this thread's panels of A
    // All panels of B, shared by the threads; or NULL, and the thread packs GROUP_N columns at a
    // time into its own group_b.
    const float *packed_b;
    float *group_b;
};

static struct matrix submatrix(const struct matrix *m, size_t row, size_t column)
{
    return (struct matrix){m->at + row * m->row + column * m->column, m->row, m->column};
}

static void pack_block_of_a(const struct product *p, const struct product_block *s)
{
    const struct matrix a = submatrix(&p->a, s->i, s->k);
    if (p->fill_a) {
        p->fill_a(p->a_source, s->packed_a, s->i, s->M, s->k, s->K);
        memset(s->packed_a + s->M * s->K, 0,
               (round_up(s->M, TILE_M) - s->M) * s->K * sizeof *s->packed_a);
    } else if (a.row == 1) {
        pack_a_columns(s->packed_a, a.at, a.column, s->M, s->K,
                       s->j == 0 && p->row_sums ? p->row_sums + s->i : NULL);
    } else {
        for (size_t i = 0; i < s->M; i += TILE_M)
            pack_a_rows(s->packed_a + i * s->K, a.at + i * a.row, a.row, min(TILE_M, s->M - i),
                        s->K);
    }
}

// Prefetches what a tile of C reads and writes.
INLINE void prefetch_tile(const struct product *p, size_t i, size_t j)
{
    for (size_t row = i; row < i + TILE_M; row++)
        for (size_t line = 0; line < TILE_N; line += LINE) {
            __builtin_prefetch(p->c + row * p->c_row + j + line, 1);
            if (p->epilogue_in)
                __builtin_prefetch(p->epilogue_in + row * p->N + j + line);
            if (p->epilogue_out)
                __builtin_prefetch(p->epilogue_out + row * p->N + j + line, 1);
        }
}

static void multiply_block(const struct product *p, const struct product_block *block)
{
    const struct product_block s = *block;
    const bool last = s.k + s.K == p->K, epilogue = last && p->epilogue;
    const float *start = s.k > 0 ? p->c : p->start;
    // The tiles of a panel of B together prefetch the whole next one.
    const size_t ahead_step = divide_up(TILE_N, divide_up(s.M, TILE_M));
    pack_block_of_a(p, block);
    for (size_t j = s.j; j < s.j + s.N; j += TILE_N) {
        const size_t columns = min(TILE_N, p->N - j), in_group = (j - s.j) % GROUP_N;
        if (!s.packed_b && in_group == 0)
            pack_b(s.group_b, submatrix(&p->b, s.k, j), s.K,
                   min(GROUP_N, min(s.j + s.N, p->N) - j));
        const float *b = s.packed_b ? s.packed_b + j * s.K : s.group_b + in_group * s.K;
        for (size_t i = 0; i < s.M; i += TILE_M) {
            const size_t rows = min(TILE_M, s.M - i), at = (s.i + i) * p->c_row + j;
            const struct product_tile t = {.c = p->c + at,
                                           .c_row = p->c_row,
                                           .start = start ? start + at : NULL,
                                           .bias = last && p->bias ? p->bias + j : NULL,
                                           .a = s.packed_a + i * s.K,
                                           .a_row = p->fill_a ? s.K : 0,
                                           .b = b,
                                           .ahead =
                                               b + s.K * TILE_N + i / TILE_M * s.K * ahead_step,
                                           .ahead_step = ahead_step};
            prefetch_tile(p, s.i + i, j);
            if (rows == TILE_M && columns == TILE_N && !epilogue)
                multiply_whole_tile(&t, s.K);
            else
                multiply_buffered_tile(p, &t, s.i + i, j, rows, columns, epilogue, s.K);
        }
    }
}

// What all blocks of a call share: k0 .. k_end - 1 are the rows of B that are packed at the time.
struct product_call {
    const struct product *p;
    size_t m_blocks, n_blocks;
    size_t k0, k_end;
    float *own; // (threads,own_size)
    size_t packed_a_size, own_size;
    float *packed_b; // if the blocks share it; else NULL
};

// A round is a group of columns within BLOCK_K rows.
static void pack_groups_of_b(const void *context, struct team_range range)
{
    const struct product_call *c = context;
    const struct product *p = c->p;
    const size_t N = round_up(p->N, TILE_N), groups = divide_up(N, GROUP_N);
    for (size_t n = range.first; n < range.end; n++) {
        const size_t k = c->k0 + n / groups * BLOCK_K, j = n % groups * GROUP_N;
        const size_t K = min(BLOCK_K, c->k_end - k);
        pack_b(c->packed_b + (k - c->k0) * N + j * K, submatrix(&p->b, k, j), K,
               min(GROUP_N, p->N - j));
    }
}

static void multiply_blocks(const void *context, struct team_range range)
{
    const struct product_call *c = context;
    const struct product *p = c->p;
    const size_t a_panels = divide_up(p->M, TILE_M), b_panels = divide_up(p->N, TILE_N);
    float *own = c->own + range.member * c->own_size;
    for (size_t n = range.first; n < range.end; n++) {
        const size_t m = n % c->m_blocks, column = n / c->m_blocks;
        struct product_block s = {.packed_a = own, .group_b = own + c->packed_a_size};
        s.i = m * a_panels / c->m_blocks * TILE_M;
        s.M = min(p->M, (m + 1) * a_panels / c->m_blocks * TILE_M) - s.i;
        s.j = column * b_panels / c->n_blocks * TILE_N;
        s.N = (column + 1) * b_panels / c->n_blocks * TILE_N - s.j;
        for (s.k = c->k0; s.k < c->k_end; s.k += s.K) {
            s.K = min(BLOCK_K, c->k_end - s.k);
            s.packed_b = c->packed_b ? c->packed_b + (s.k - c->k0) * b_panels * TILE_N : NULL;
            multiply_block(p, &s);
        }
    }
}

void CPU_FN(product)(struct device *device, const struct product *p)
{
    if (p->M == 0 || p->N == 0)
        return;
    const size_t threads = (size_t)device->threads;
    const size_t a_panels = divide_up(p->M, TILE_M);
    const size_t b_panels = divide_up(p->N, TILE_N);
    // C is cut into blocks of rows, as many as keep all threads busy to the end; they share the
    // packed B. If one block of rows would do, C is cut into blocks of columns instead, and each
    // thread packs the columns of B that it needs.
    const bool shared = p->M > BLOCK_M;
    const size_t m_blocks = shared ? min(a_panels, round_up(divide_up(p->M, BLOCK_M), threads)) : 1;
    const size_t n_blocks = shared ? 1 : min(b_panels, 4 * threads);
    // N is the width of B in whole panels; `depth` rows of B are packed at once.
    const size_t N = b_panels * TILE_N;
    const size_t depth = shared ? min(p->K, (1 + PACKED_B / (N * BLOCK_K)) * BLOCK_K) : p->K;
    const size_t packed_a_size = round_up(divide_up(a_panels, m_blocks) * TILE_M * BLOCK_K, 16);
    const size_t own_size = packed_a_size + (shared ? 0 : GROUP_N * BLOCK_K);
    float *scratch = CPU_FN(scratch)(device, threads * own_size + (shared ? N * depth : 0));
    if (!scratch)
        return;
    struct product_call c = {.p = p,
                             .m_blocks = m_blocks,
                             .n_blocks = n_blocks,
                             .own = scratch,
                             .packed_a_size = packed_a_size,
                             .own_size = own_size,
                             .packed_b = shared ? scratch + threads * own_size : NULL};
    struct team *team = team_of(device, p->M * p->N * p->K / 32);
    for (c.k0 = 0; c.k0 < p->K; c.k0 = c.k_end) {
        c.k_end = min(p->K, c.k0 + depth);
        if (shared)
            team_for(team, divide_up(c.k_end - c.k0, BLOCK_K) * divide_up(N, GROUP_N), 1,
                     pack_groups_of_b, &c);
        team_for(team, m_blocks * n_blocks, 1, multiply_blocks, &c);
    }
}
