// Matrix products by packed panels: Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", 2008. SPDX-License-Identifier: MIT
//
// Blocks of A and B are copied ("packed") into panels that the micro-kernel (tile.h) reads in
// sequence. A panel of B (BLOCK_K,TILE_N) stays in the first-level cache while the panels of a
// block of A, which stays in the second-level cache, pass by. Panels consist of words (real.h): a
// step along k takes one of each row of A and of each column of B.
#include "kernels/cpu/product.h"

#include "kernels/cpu/tile.h"

#define BLOCK_K  384               // words
#define BLOCK_M  144               // a multiple of TILE_M, 6 or 12
#define GROUP_N  (4 * TILE_N)      // columns of B packed at a time
#define PACKED_B ((size_t)4 << 20) // floats of B that are packed at once, roughly
// Rows to prefetch ahead: the hardware prefetcher doesn't follow strides this large.
#define PREFETCH_ROWS 8

// Word w of column j of a matrix with K rows, the missing row of an odd K being 0.
static float find_word(const struct matrix *b, size_t K, size_t w, size_t j)
{
    const real *at = b->at + w * STEP * b->row + j * b->column;
    const real pair[2] = {at[0], w * STEP + 1 < K ? at[b->row] : 0};
    return load_word(pair);
}

// Packs b (K,N) into panels (words,TILE_N), one after the other, the last padded with zeros.
static void pack_b(float *to, struct matrix b, size_t K, size_t N)
{
    const size_t words = count_words(K), complete = K / STEP, whole = N / TILE_N * TILE_N;
    if (b.column == 1)
        for (size_t w = 0; w < complete; w++) {
            const real *row = b.at + w * STEP * b.row;
            for (size_t i = 0; i < STEP; i++)
                prefetch_reals(row + (PREFETCH_ROWS * STEP + i) * b.row, whole);
            for (size_t j = 0; j < whole; j += TILE_N)
                pack_words(to + j * words + w * TILE_N, row + j, b.row, TILE_N);
        }
    else
        for (size_t j = 0; j < whole; j += TILE_N)
            transpose_words(to + j * words, TILE_N, b.at + j * b.column, b.column, TILE_N,
                            complete);
    for (size_t w = 0; w < words; w++)
        for (size_t j = w < complete ? whole : 0; j < round_up(N, TILE_N); j++)
            to[j / TILE_N * TILE_N * words + w * TILE_N + j % TILE_N] =
                j < N ? find_word(&b, K, w, j) : 0;
}

// Packs `rows` rows of A, each contiguous and `stride` apart, into a panel (words,TILE_M); the last
// row is repeated for those missing.
static void pack_a_rows(float *to, const real *from, size_t stride, size_t rows, size_t K)
{
    const real *row[TILE_M];
    for (size_t i = 0; i < TILE_M; i++)
        row[i] = from + min(i, rows - 1) * stride;
    size_t w = 0;
    // LANES rows of A make a part of each row of the panel. The last part may spill past its row of
    // TILE_M, and the next row overwrites the spill. So the last row is left to the loop below.
    enum { PARTS = (TILE_M + LANES - 1) / LANES };
    for (; (w + LANES) * STEP < K; w += LANES) {
        vec block[PARTS * LANES] = {{0}};
        for (size_t i = 0; i < TILE_M; i++) {
            block[i] = vec_load_words(row[i] + w * STEP);
            __builtin_prefetch(row[i] + TILE_M * stride + w * STEP);
        }
        for (size_t part = 0; part < PARTS; part++)
            vec_transpose(block + part * LANES);
        for (size_t i = 0; i < LANES; i++)
            for (size_t part = 0; part < PARTS; part++)
                vec_store(to + (w + i) * TILE_M + part * LANES, block[part * LANES + i]);
    }
    for (; w < count_words(K); w++)
        for (size_t i = 0; i < TILE_M; i++)
            to[w * TILE_M + i] = find_word(&(struct matrix){row[i], 1, 0}, K, w, 0);
}

// Packs M rows of A into panels (words,TILE_M), one after the other, the last padded with zeros.
// Here the columns of A are contiguous, and `stride` apart. sums (M) += the sum of each row; NULL:
// it is not needed.
static void pack_a_columns(float *to, const real *from, size_t stride, size_t M, size_t K,
                           float *sums)
{
    const struct matrix a = {from, stride, 1};
    const size_t words = count_words(K), complete = K / STEP, whole = M / TILE_M * TILE_M;
    float total[BLOCK_M] = {0};
    for (size_t w = 0; w < words; w++) {
        const real *row = from + w * STEP * stride;
        for (size_t i = 0; i < STEP; i++)
            prefetch_reals(row + (PREFETCH_ROWS * STEP + i) * stride, M);
        for (size_t i = 0; i < whole && w < complete; i += TILE_M)
            pack_words(to + i * words + w * TILE_M, row + i, stride, TILE_M);
        for (size_t i = w < complete ? whole : 0; i < round_up(M, TILE_M); i++)
            to[i / TILE_M * TILE_M * words + w * TILE_M + i % TILE_M] =
                i < M ? find_word(&a, K, w, i) : 0;
        for (size_t k = w * STEP; k < min(K, (w + 1) * STEP) && sums; k++, row += stride)
#pragma omp simd
            for (size_t i = 0; i < M; i++)
                total[i] += to_float(row[i]);
    }
    for (size_t i = 0; sums && i < M; i++)
        sums[i] += total[i];
}

// One tile of C: the arguments of multiply_tile.
struct product_tile {
    float *sums; // NULL: the tile is stored as activations in C
    size_t sums_row;
    const float *start; // or NULL; its rows are sums_row apart
    const real *addend; // in place of start: activations, their rows p->c_row apart; or NULL
    const real *bias;   // or NULL
    const float *a;
    size_t a_row; // words between rows of a; 0: a is a packed panel
    const float *b;
    const float *ahead;
    size_t ahead_step;
};

// Computes a tile of K words, whose elements of a are a_row apart from row to row and a_column
// along k. With each k a line at t->ahead is prefetched.
INLINE void multiply_tile(const struct product_tile *t, size_t K, size_t a_row, size_t a_column)
{
    vec sums[TILE_M][2];
    const float *a = t->a, *b = t->b, *ahead = t->ahead;
    clear_sums(sums);
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a += a_column, b += TILE_N, ahead += t->ahead_step) {
        __builtin_prefetch(ahead, 0, 2);
        add_products(sums, true, a, a_row, b);
    }
    store_sums(t->sums, t->sums_row, sums, t->start, t->bias);
}
// Not inlined: in a larger function the compiler runs out of registers.
__attribute__((noinline)) static void multiply_tile_rows(const struct product_tile *t, size_t K)
{
    multiply_tile(t, K, t->a_row, 1);
}
__attribute__((noinline)) static void multiply_tile_panel(const struct product_tile *t, size_t K)
{
    multiply_tile(t, K, 1, TILE_M);
}
INLINE void multiply_whole_tile(const struct product_tile *t, size_t K)
{
    if (t->a_row)
        multiply_tile_rows(t, K);
    else
        multiply_tile_panel(t, K);
}

// What one call of multiply_block computes: rows i .. i + M - 1 and columns j .. j + N - 1 of C,
// summed over the words k .. k + K - 1.
struct product_block {
    size_t i, j, k;
    size_t M, N, K;
    float *packed_a; // this thread's panels of A
    // All panels of B, shared by the threads; or NULL, and the thread packs GROUP_N columns at a
    // time into its own group_b.
    const float *packed_b;
    float *group_b;
    float *partial; // (M,N in whole tiles): the sums so far, where C can't hold them
};

// The place of a tile in C, and the part of it that C has.
struct tile_place {
    size_t i, j, rows, columns;
};

// A tile that reaches past the last row or column of C, that the epilogue changes, or that starts
// from activations or ends as such: it is computed in a buffer, of which rows x columns are then
// stored.
static void multiply_buffered_tile(const struct product *p, const struct product_tile *t,
                                   struct tile_place at, bool epilogue, size_t K)
{
    float sums[TILE_M * TILE_N] __attribute__((aligned(64)));
    real bias[TILE_N] __attribute__((aligned(64)));
    struct product_tile buffered = *t;
    buffered.sums = sums, buffered.sums_row = TILE_N;
    if (t->start) {
        copy_tile(sums, TILE_N, t->start, t->sums_row, at.rows, at.columns);
        buffered.start = sums;
    } else if (t->addend) {
        load_tile(sums, TILE_N, t->addend, p->c_row, at.rows, at.columns);
        buffered.start = sums;
    }
    if (t->bias) {
        memcpy(bias, t->bias, at.columns * sizeof *bias);
        buffered.bias = bias;
    }
    multiply_whole_tile(&buffered, K);
    if (epilogue)
        p->epilogue(p, sums, at.i, at.j, at.rows, at.columns);
    if (t->sums)
        copy_tile(t->sums, t->sums_row, sums, TILE_N, at.rows, at.columns);
    else
        store_tile(p->c + at.i * p->c_row + at.j, p->c_row, sums, TILE_N, at.rows, at.columns);
}

static struct matrix submatrix(const struct matrix *m, size_t row, size_t column)
{
    return (struct matrix){m->at + row * m->row + column * m->column, m->row, m->column};
}

static void pack_block_of_a(const struct product *p, const struct product_block *s)
{
    const size_t k = s->k * STEP, K = min(s->K * STEP, p->K - k), row = s->K * STEP;
    const struct matrix a = submatrix(&p->a, s->i, k);
    if (p->fill_a) {
        word_part *to = (word_part *)s->packed_a;
        p->fill_a(p->a_source, to, row, s->i, s->M, k, K);
        for (size_t i = 0; i < s->M && K < row; i++)
            to[i * row + K] = 0;
        memset(s->packed_a + s->M * s->K, 0,
               (round_up(s->M, TILE_M) - s->M) * s->K * sizeof *s->packed_a);
    } else if (a.row == 1) {
        pack_a_columns(s->packed_a, a.at, a.column, s->M, K,
                       s->j == 0 && p->row_sums ? p->row_sums + s->i : NULL);
    } else {
        for (size_t i = 0; i < s->M; i += TILE_M)
            pack_a_rows(s->packed_a + i * s->K, a.at + i * a.row, a.row, min(TILE_M, s->M - i), K);
    }
}

INLINE void prefetch_to_write(const void *row, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += LINE * sizeof(float))
        __builtin_prefetch((const char *)row + at, 1);
}

// Prefetches what a tile of C reads and writes.
INLINE void prefetch_tile(const struct product *p, size_t i, size_t j)
{
    for (size_t row = i; row < i + TILE_M; row++) {
        if (p->dw)
            prefetch_to_write(p->dw + row * p->c_row + j, TILE_N * sizeof *p->dw);
        else
            prefetch_to_write(p->c + row * p->c_row + j, TILE_N * sizeof *p->c);
        if (p->epilogue_in)
            prefetch_reals(p->epilogue_in + row * p->N + j, TILE_N);
        if (p->epilogue_out)
            prefetch_to_write(p->epilogue_out + row * p->N + j, TILE_N * sizeof *p->epilogue_out);
    }
}

// Where C can hold sums, they are there from one block along k to the next; else they are in the
// block's own memory. Returns those of the block's first element, their rows *row apart.
static float *find_sums(const struct product *p, const struct product_block *s, size_t *row)
{
    *row = p->c_row;
    if (p->dw)
        return p->dw + s->i * p->c_row + s->j;
#if ACT_BITS == 32
    return p->c + s->i * p->c_row + s->j;
#else
    *row = round_up(s->N, TILE_N);
    return s->partial;
#endif
}

static void multiply_block(const struct product *p, const struct product_block *block)
{
    const struct product_block s = *block;
    const bool last = s.k + s.K == count_words(p->K), epilogue = last && p->epilogue;
    const bool to_reals = ACT_BITS == 16 && last && !p->dw;
    size_t sums_row;
    float *sums = find_sums(p, block, &sums_row);
    const bool starts = s.k > 0 || p->dw;
    // The tiles of a panel of B together prefetch the whole next one.
    const size_t ahead_step = divide_up(TILE_N, divide_up(s.M, TILE_M));
    pack_block_of_a(p, block);
    for (size_t j = s.j; j < s.j + s.N; j += TILE_N) {
        const size_t columns = min(TILE_N, p->N - j), in_group = (j - s.j) % GROUP_N;
        if (!s.packed_b && in_group == 0)
            pack_b(s.group_b, submatrix(&p->b, s.k * STEP, j), min(s.K * STEP, p->K - s.k * STEP),
                   min(GROUP_N, min(s.j + s.N, p->N) - j));
        const float *b = s.packed_b ? s.packed_b + j * s.K : s.group_b + in_group * s.K;
        for (size_t i = 0; i < s.M; i += TILE_M) {
            const struct tile_place at = {s.i + i, j, min(TILE_M, s.M - i), columns};
            const size_t offset = i * sums_row + j - s.j;
            const struct product_tile t = {
                .sums = to_reals ? NULL : sums + offset,
                .sums_row = sums_row,
                .start = starts ? sums + offset : NULL,
                .addend = !starts && p->start ? p->start + at.i * p->c_row + j : NULL,
                .bias = last && p->bias ? p->bias + j : NULL,
                .a = s.packed_a + i * s.K,
                .a_row = p->fill_a ? s.K : 0,
                .b = b,
                .ahead = b + s.K * TILE_N + i / TILE_M * s.K * ahead_step,
                .ahead_step = ahead_step};
            prefetch_tile(p, at.i, j);
            if (at.rows == TILE_M && columns == TILE_N && !epilogue && !to_reals && !t.addend)
                multiply_whole_tile(&t, s.K);
            else
                multiply_buffered_tile(p, &t, at, epilogue, s.K);
        }
    }
}

// What all blocks of a call share: k0 .. k_end - 1 are the words of B that are packed at the time.
struct product_call {
    const struct product *p;
    size_t m_blocks, n_blocks;
    size_t k0, k_end;
    float *own; // (threads,own_size)
    size_t packed_a_size, group_b_size, own_size;
    float *packed_b; // if the blocks share it; else NULL
};

// A round is a group of columns within BLOCK_K words.
static void pack_groups_of_b(const void *context, struct team_range range)
{
    const struct product_call *c = context;
    const struct product *p = c->p;
    const size_t N = round_up(p->N, TILE_N), groups = divide_up(N, GROUP_N);
    for (size_t n = range.first; n < range.end; n++) {
        const size_t k = c->k0 + n / groups * BLOCK_K, j = n % groups * GROUP_N;
        const size_t K = min(BLOCK_K, c->k_end - k);
        pack_b(c->packed_b + (k - c->k0) * N + j * K, submatrix(&p->b, k * STEP, j),
               min(K * STEP, p->K - k * STEP), min(GROUP_N, p->N - j));
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
        s.partial = s.group_b + c->group_b_size;
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
    const size_t threads = (size_t)device->threads, words = count_words(p->K);
    const size_t a_panels = divide_up(p->M, TILE_M);
    const size_t b_panels = divide_up(p->N, TILE_N);
    // C is cut into blocks of rows, as many as keep all threads busy to the end; they share the
    // packed B. If one block of rows would do, C is cut into blocks of columns instead, and each
    // thread packs the columns of B that it needs.
    const bool shared = p->M > BLOCK_M;
    const size_t m_blocks = shared ? min(a_panels, round_up(divide_up(p->M, BLOCK_M), threads)) : 1;
    const size_t n_blocks = shared ? 1 : min(b_panels, 4 * threads);
    // N is the width of B in whole panels; `depth` words of its columns are packed at once: all
    // where C can't hold the sums until the next are.
    const bool in_c = ACT_BITS == 32 || p->dw;
    const size_t N = b_panels * TILE_N, block_M = divide_up(a_panels, m_blocks) * TILE_M;
    const size_t depth =
        shared && in_c ? min(words, (1 + PACKED_B / (N * BLOCK_K)) * BLOCK_K) : words;
    const size_t packed_a_size = round_up(block_M * BLOCK_K, 16);
    const size_t group_b_size = shared ? 0 : GROUP_N * BLOCK_K;
    const size_t partial_size =
        in_c || words <= BLOCK_K ? 0 : block_M * divide_up(b_panels, n_blocks) * TILE_N;
    const size_t own_size = packed_a_size + group_b_size + round_up(partial_size, 16);
    float *scratch = ISA_FN(scratch)(device, threads * own_size + (shared ? N * depth : 0));
    if (!scratch)
        return;
    struct product_call c = {.p = p,
                             .m_blocks = m_blocks,
                             .n_blocks = n_blocks,
                             .own = scratch,
                             .packed_a_size = packed_a_size,
                             .group_b_size = group_b_size,
                             .own_size = own_size,
                             .packed_b = shared ? scratch + threads * own_size : NULL};
    struct team *team = team_of(device, p->M * p->N * p->K / 32);
    for (c.k0 = 0; c.k0 < words; c.k0 = c.k_end) {
        c.k_end = min(words, c.k0 + depth);
        if (shared)
            team_for(team, divide_up(c.k_end - c.k0, BLOCK_K) * divide_up(N, GROUP_N), 1,
                     pack_groups_of_b, &c);
        team_for(team, m_blocks * n_blocks, 1, multiply_blocks, &c);
    }
}
