// Self-attention, a tile of TILE_N queries at a time. SPDX-License-Identifier: MIT
//
// No T x T matrix is stored; backward computes the probabilities again from lse (Dao et al.,
// "FlashAttention", 2022).
// A tile of scores is stored as (keys,queries), so that the softmax's row_max and row_sum, one for
// each query, need no reduction across the lanes of a vector, and the products read the tile as it
// is. The softmax uses powers of 2: scores times `scale`, log2(e) / sqrt(D), are exponents of 2.
//
// Products step through words (real.h). Where these are pairs, the factors of every product are
// bfloat16, also the probabilities and the gradients of the scores. Pairs run along that dimension
// over which a product sums, so a factor of two products is there in two forms.
#include "kernels/cpu/tile.h"

#define BLOCK_K       256 // rows of words of a panel that fit into the first-level cache
#define BLOCK_TILES   4   // tiles of queries that are added to dk and dv at a time
#define PREFETCH_ROWS 8

#define LOG2_E 1.44269504f
#define LN_2   0.69314718f

// A left factor in runs of `run` columns of words: word (i,k) of a run is at[i * row + k * column];
// each run starts `next` words after the one before.
struct left_factor {
    const float *at;
    size_t row, column, run, next;
};

// The micro-kernel: sums (rows,TILE_N) += A B, where A (rows,K) and B (K,TILE_N) are words, with K
// within a run.
INLINE void add_to_sums(vec (*sums)[2], size_t rows, size_t K, struct left_factor a, const float *b)
{
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a.at += a.column, b += TILE_N) {
        const vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
#pragma GCC unroll 12
        for (size_t i = 0; i < rows; i++) {
            sums[i][0] = vec_add_word(sums[i][0], a.at + i * a.row, b0);
            sums[i][1] = vec_add_word(sums[i][1], a.at + i * a.row, b1);
        }
    }
}

// c (rows,TILE_N) = A B; += if `add`. The sums stay in registers: `rows` is a constant, at most
// TILE_M. row_max is that of multiply_panel.
INLINE void multiply_few_rows(float *c, bool add, size_t rows, size_t K, struct left_factor a,
                              const float *b, vec *row_max)
{
    vec sums[TILE_M][2], *to = (vec *)c;
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++)
        sums[i][0] = sums[i][1] = vec_of(0);
    for (; K > a.run; K -= a.run, a.at += a.next, b += a.run * TILE_N)
        add_to_sums(sums, rows, a.run, a, b);
    add_to_sums(sums, rows, K, a, b);
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++) {
        if (add)
            sums[i][0] += to[2 * i], sums[i][1] += to[2 * i + 1];
        to[2 * i] = sums[i][0], to[2 * i + 1] = sums[i][1];
        if (row_max) {
            row_max[0] = vec_max(row_max[0], sums[i][0]);
            row_max[1] = vec_max(row_max[1], sums[i][1]);
        }
    }
}

// Rounds up to a number of rows that multiply_panel accepts: even, and at least 4. Where the
// columns of A have fewer rows, it reads up to SPILL words past the last one.
#define SPILL 3
static size_t round_up_rows(size_t rows)
{
    return rows < 4 ? 4 : round_up(rows, 2);
}

// c (M,TILE_N) = A (M,K) B (K,TILE_N); += if `add`. Unless it is NULL, row_max (TILE_N) becomes the
// maximum of itself and of each column of c.
INLINE void multiply_panel(float *c, bool add, size_t M, size_t K, struct left_factor a,
                           const float *b, vec *row_max)
{
    for (; M % 6; M -= 4, c += 4 * TILE_N, a.at += 4 * a.row)
        multiply_few_rows(c, add, 4, K, a, b, row_max);
    for (; TILE_M > 6 && M % TILE_M; M -= 6, c += 6 * TILE_N, a.at += 6 * a.row)
        multiply_few_rows(c, add, 6, K, a, b, row_max);
    for (; M; M -= TILE_M, c += TILE_M * TILE_N, a.at += TILE_M * a.row)
        multiply_few_rows(c, add, TILE_M, K, a, b, row_max);
}

// c (M,TILE_N) = A B; the rows of A are contiguous.
static void multiply_row_major(float *c, size_t M, size_t K, const float *a, const float *b,
                               vec *row_max)
{
    size_t k = 0;
    for (; K - k > BLOCK_K; k += BLOCK_K)
        multiply_panel(c, k > 0, M, BLOCK_K, (struct left_factor){a + k, K, 1, BLOCK_K, 0},
                       b + k * TILE_N, NULL);
    multiply_panel(c, k > 0, M, K - k, (struct left_factor){a + k, K, 1, BLOCK_K, 0},
                   b + k * TILE_N, row_max);
}

// c (M,TILE_N) = A B; += if `add`. The columns of A are contiguous and `column` apart; K is at most
// BLOCK_K.
static void multiply_column_major(float *c, bool add, size_t M, size_t K, const float *a,
                                  size_t column, const float *b)
{
    multiply_panel(c, add, M, K, (struct left_factor){a, 1, column, BLOCK_K, 0}, b, NULL);
}

// c (M,TILE_N) = A B; += if `add`. A is in panels of M rows of PANEL_WORDS, one every M * TILE_N.
#define PANEL_WORDS (TILE_N / STEP)
static void multiply_panels(float *c, bool add, size_t M, size_t K, const float *a, const float *b)
{
    multiply_panel(c, add, M, K, (struct left_factor){a, PANEL_WORDS, 1, PANEL_WORDS, M * TILE_N},
                   b, NULL);
}

// Packs n <= TILE_N rows of D, `stride` apart, as the columns of a panel (words of D,TILE_N),
// padded with zeros.
static void pack_transposed(float *to, const real *from, size_t stride, size_t n, size_t D)
{
    const size_t complete = D / STEP, odd = complete * STEP;
    if (n < TILE_N)
        memset(to, 0, count_words(D) * TILE_N * sizeof *to);
    transpose_words(to, TILE_N, from, stride, n, complete);
    for (size_t i = 0; i < n && odd < D; i++)
        pack_last_words(to + complete * TILE_N + i, from + i * stride + odd, 1);
}

// Sizes that forward and backward share; those of working memory are in floats, or words.
struct attention_sizes {
    size_t T, H, D;
    size_t qkv_row, out_row; // elements from one token to the next
    size_t T_rows, D_rows;   // T and D, rounded up by round_up_rows
    size_t D_words;
    size_t keys;    // a head's keys or values in either form, and padding that multiply_panel reads
    size_t scores;  // (T_rows,TILE_N): a tile of scores, or of probabilities
    size_t queries; // (D_rows,TILE_N): a tile of queries, or another array of that size
    float scale;    // which makes scores exponents of 2
};

static struct attention_sizes find_attention_sizes(size_t T, size_t H, size_t D)
{
    struct attention_sizes s = {.T = T, .H = H, .D = D, .qkv_row = 3 * H * D, .out_row = H * D};
    s.T_rows = round_up_rows(T);
    s.D_rows = round_up_rows(D);
    s.D_words = count_words(D);
    s.keys = round_up(s.T_rows * s.D_words + SPILL, 16);
    s.scores = s.T_rows * TILE_N;
    s.queries = s.D_rows * TILE_N;
    s.scale = LOG2_E / sqrtf((float)D);
    return s;
}

// Copies tokens first .. first + n - 1 of a head's keys or values to words along D,
// (T_rows,D_words).
static void copy_rows(const struct attention_sizes *s, float *to, const real *from, size_t first,
                      size_t n)
{
    const size_t row = s->D_words, odd = s->D % STEP;
    for (size_t t = first; t < first + n; t++) {
        const real *token = from + t * s->qkv_row;
        prefetch_reals(token + PREFETCH_ROWS * s->qkv_row, s->D);
        fill_words((word_part *)(to + t * row), token, s->D - odd);
        if (odd)
            pack_last_words(to + t * row + row - 1, token + s->D - 1, 1);
    }
    if (first + n < s->T)
        return;
    // The rows past the last one repeat it, so that they don't change row_max.
    for (size_t t = s->T; t < s->T_rows; t++)
        memcpy(to + t * row, to + (s->T - 1) * row, row * sizeof *to);
    memset(to + s->T_rows * row, 0, SPILL * sizeof *to);
}

// The same to words along T, (words of T,D). `first` is even.
static void copy_columns(const struct attention_sizes *s, float *to, const real *from, size_t first,
                         size_t n)
{
    for (size_t t = first; t < first + n; t += STEP) {
        const real *token = from + t * s->qkv_row;
        for (size_t i = 0; i < STEP; i++)
            prefetch_reals(token + (PREFETCH_ROWS + i) * s->qkv_row, s->D);
        if (t + STEP <= s->T)
            pack_words(to + t / STEP * s->D, token, s->qkv_row, s->D);
        else
            pack_last_words(to + t / STEP * s->D, token, s->D);
    }
    if (first + n == s->T)
        memset(to + count_words(s->T) * s->D, 0, SPILL * sizeof *to);
}

// Copies tokens first .. first + n - 1 of a head's keys k to words along D, and the values to words
// along T, which follow the keys.
static void copy_keys(const struct attention_sizes *s, float *keys, const real *k, size_t first,
                      size_t n)
{
    copy_rows(s, keys, k, first, n);
    copy_columns(s, keys + s->keys, k + s->out_row, first, n);
}

// Stores a row of words along T, made of STEP rows of TILE_N floats.
INLINE void store_words(float *to, vec (*rows)[2])
{
    for (size_t half = 0; half < 2; half++)
#if PAIRS
        vec_store(to + half * LANES, vec_pair_rows(rows[0][half], rows[1][half]));
#else
        vec_store(to + half * LANES, rows[0][half]);
#endif
}

// Stores a row of TILE_N floats as PANEL_WORDS words.
INLINE void store_panel_row(float *to, const vec row[2])
{
#if PAIRS
    vec_store(to, vec_pair_columns(row[0], row[1]));
#else
    vec_store(to, row[0]);
    vec_store(to + LANES, row[1]);
#endif
}

// The softmax of TILE_N queries, before its division by row_sum: turns the scores x of tokens
// first .. first + n - 1 into 2^(scale x - row_max), in words along T at the start of `scores`, and
// adds them to row_sum.
static void exponentiate_scores(float *scores, float scale, size_t first, size_t n,
                                const vec row_max[2], vec row_sum[2])
{
    for (size_t t = first; t < first + n; t += STEP) {
        const vec *x = (const vec *)(scores + t * TILE_N);
        vec rows[STEP][2] = {{{0}}};
        for (size_t i = 0; i < STEP && t + i < first + n; i++)
            for (size_t half = 0; half < 2; half++)
                row_sum[half] += rows[i][half] =
                    vec_exp2(vec_fma(vec_of(scale), x[2 * i + half], -row_max[half]));
        store_words(scores + t / STEP * TILE_N, rows);
    }
}

// The arguments that all heads of a call share.
struct attention {
    struct attention_sizes s;
    real *out;
    float *lse;
    const real *qkv;
    size_t tiles;     // of a head's queries
    float *keys;      // (heads or threads, 2 keys of attention_sizes)
    float *work;      // (threads,work_size)
    size_t work_size; // 2 queries + scores
};

static const real *keys_of(const struct attention *p, size_t head)
{
    const struct attention_sizes *s = &p->s;
    return p->qkv + head / s->H * s->T * s->qkv_row + head % s->H * s->D + s->out_row;
}

// Computes the output of one tile of a head's queries, from token `first` on. work: 2 queries +
// scores floats.
static void attend_tile(const struct attention *p, const float *keys, float *work, size_t head,
                        size_t first)
{
    const struct attention_sizes *s = &p->s;
    const size_t n = min(TILE_N, s->T - first), at = head / s->H * s->T + first;
    const float *values = keys + s->keys;
    float *queries = work, *out = queries + s->queries, *scores = out + s->queries;
    pack_transposed(queries, p->qkv + at * s->qkv_row + head % s->H * s->D, s->qkv_row, n, s->D);
    vec row_max[2] = {vec_of(-INFINITY), vec_of(-INFINITY)}, row_sum[2] = {{0}, {0}};
    multiply_row_major(scores, s->T_rows, s->D_words, keys, queries, row_max);
    row_max[0] *= s->scale, row_max[1] *= s->scale;
    for (size_t t = 0; t < s->T; t += BLOCK_K * STEP) {
        const size_t tokens = min(BLOCK_K * STEP, s->T - t), w = t / STEP;
        exponentiate_scores(scores, s->scale, t, tokens, row_max, row_sum);
        multiply_column_major(out, t > 0, s->D_rows, count_words(tokens), values + w * s->D, s->D,
                              scores + w * TILE_N);
    }
    const vec factor[2] = {1 / row_sum[0], 1 / row_sum[1]};
    vec *x = (vec *)out;
    for (size_t d = 0; d < 2 * s->D; d += 2)
        x[d] *= factor[0], x[d + 1] *= factor[1];
    transpose_out(p->out + at * s->out_row + head % s->H * s->D, s->out_row, out, TILE_N, s->D, n);
    if (!p->lse)
        return;
    const float *max = (const float *)row_max, *sum = (const float *)row_sum;
    float lse[TILE_N];
#pragma omp simd
    for (size_t i = 0; i < TILE_N; i++)
        lse[i] = multiply_add(LN_2, max[i], simd_log(sum[i]));
    memcpy(p->lse + head * s->T + first, lse, n * sizeof *lse);
}

// A round is a tile of tokens.
static void copy_keys_of_tiles(const void *context, struct team_range range)
{
    const struct attention *p = context;
    for (size_t n = range.first; n < range.end; n++) {
        const size_t head = n / p->tiles, first = n % p->tiles * TILE_N;
        copy_keys(&p->s, p->keys + head * 2 * p->s.keys, keys_of(p, head), first,
                  min(TILE_N, p->s.T - first));
    }
}

static void attend_tiles(const void *context, struct team_range range)
{
    const struct attention *p = context;
    for (size_t n = range.first; n < range.end; n++)
        attend_tile(p, p->keys + n / p->tiles * 2 * p->s.keys,
                    p->work + range.member * p->work_size, n / p->tiles, n % p->tiles * TILE_N);
}

static void attend_heads(const void *context, struct team_range range)
{
    const struct attention *p = context;
    float *keys = p->keys + range.member * 2 * p->s.keys;
    for (size_t head = range.first; head < range.end; head++) {
        copy_keys(&p->s, keys, keys_of(p, head), 0, p->s.T);
        for (size_t first = 0; first < p->s.T; first += TILE_N)
            attend_tile(p, keys, p->work + range.member * p->work_size, head, first);
    }
}

void CPU_FN(attention)(struct device *device, act *out, float *lse, const act *qkv, size_t B,
                       size_t T, size_t H, size_t D)
{
    struct attention p = {.s = find_attention_sizes(T, H, D),
                          .out = reals(out),
                          .lse = lse,
                          .qkv = const_reals(qkv),
                          .tiles = divide_up(T, TILE_N)};
    const size_t heads = B * H, threads = (size_t)device->threads;
    // Each thread takes whole heads. If there are few heads, the threads share the tiles of queries
    // instead.
    const bool few = heads < 4 * threads;
    const size_t keys_size = (few ? heads : threads) * 2 * p.s.keys;
    p.work_size = 2 * p.s.queries + p.s.scores;
    p.keys = ISA_FN(scratch)(device, keys_size + threads * p.work_size);
    if (!p.keys)
        return;
    p.work = p.keys + keys_size;
    struct team *team = team_of(device, heads * T * T * D / 16);
    if (few) {
        team_for(team, heads * p.tiles, 1, copy_keys_of_tiles, &p);
        team_for(team, heads * p.tiles, 1, attend_tiles, &p);
    } else {
        team_for(team, heads, 1, attend_heads, &p);
    }
}

// The working memory of one head's backward pass. A block is BLOCK_TILES tiles of queries.
struct head_memory {
    float *keys, *values; // (T_rows,D_words): words along D
    float *key_columns;   // (words of T,D): keys in words along T
    float *dk, *dv;       // (T_rows,D) in panels
    float *p, *ds;        // (T_rows, queries of a block) in panels, words along the queries:
                          // probabilities, and the gradients of the scores
    float *q, *dout;      // (words of a block's queries, D) in panels
    float *tile_q, *tile_dout, *tile_dq; // (D_rows,TILE_N)
    float *tile_ds;                      // (words of T,TILE_N): ds of a tile in words along T
};

#define FORMS STEP // of keys: where words are no pairs, both are one

static size_t head_memory_size(const struct attention_sizes *s)
{
    return (1 + FORMS) * s->keys + 2 * (divide_up(s->D, TILE_N) + BLOCK_TILES) * s->scores +
           2 * BLOCK_TILES * TILE_N * round_up(s->D, TILE_N) + 3 * s->queries + PAIRS * s->scores;
}

static struct head_memory place_head_memory(const struct attention_sizes *s, float *at)
{
    struct head_memory w = {
        .values = at, .keys = at + s->keys, .key_columns = at + FORMS * s->keys};
    w.dk = w.key_columns + s->keys;
    w.dv = w.dk + divide_up(s->D, TILE_N) * s->scores;
    w.p = w.dv + divide_up(s->D, TILE_N) * s->scores;
    w.ds = w.p + BLOCK_TILES * s->scores;
    w.q = w.ds + BLOCK_TILES * s->scores;
    w.dout = w.q + BLOCK_TILES * TILE_N * round_up(s->D, TILE_N);
    w.tile_q = w.dout + BLOCK_TILES * TILE_N * round_up(s->D, TILE_N);
    w.tile_dout = w.tile_q + s->queries;
    w.tile_dq = w.tile_dout + s->queries;
    w.tile_ds = w.tile_dq + s->queries;
    return w;
}

// Packs n rows of D, `stride` apart, into panels (words of n,TILE_N), the last padded with zeros.
static void pack_panels(float *to, const real *from, size_t stride, size_t n, size_t D)
{
    const size_t words = count_words(n);
    for (size_t d = 0; d < D; d += TILE_N, to += words * TILE_N) {
        const size_t width = min(TILE_N, D - d);
        if (width < TILE_N)
            memset(to, 0, words * TILE_N * sizeof *to);
        for (size_t w = 0; w < words; w++) {
            const real *row = from + w * STEP * stride + d;
            if (n % STEP && w == words - 1)
                pack_last_words(to + w * TILE_N, row, width);
            else if (width == TILE_N)
                pack_words(to + w * TILE_N, row, stride, TILE_N);
            else
                pack_words(to + w * TILE_N, row, stride, width);
        }
    }
}

// Copies n rows of D, times scale, from panels (M,TILE_N) to rows that are `stride` apart.
static void unpack_panels(real *to, size_t stride, const float *from, size_t M, float scale,
                          size_t n, size_t D)
{
    for (size_t t = 0; t < n; t++)
        for (size_t d = 0; d < D; d += TILE_N) {
            const vec *x = (const vec *)(from + d * M + t * TILE_N);
            const vec row[2] = {scale * x[0], scale * x[1]};
            store_tile(to + t * stride + d, 0, (const float *)row, 0, 1, min(TILE_N, D - d));
        }
}

// The gradient of the softmax for TILE_N queries. p: scores in, probabilities out. ds: the
// gradients of the probabilities in, those of the scores, but for their scale, out. Both come out
// in words along the queries; in pairs ds also in words along T, in `columns`.
static void differentiate_softmax(const struct attention_sizes *s, float *p, float *ds,
                                  float *columns, const vec *lse, const vec *delta)
{
    for (size_t t = 0; t < s->T; t += STEP) {
        vec rows[STEP][2] = {{{0}}};
        for (size_t i = 0; i < STEP && t + i < s->T; i++) {
            const size_t at = (t + i) * TILE_N;
            vec probability[2];
            for (size_t half = 0; half < 2; half++) {
                const vec score = *(const vec *)(p + at + half * LANES);
                probability[half] = vec_exp2(vec_fma(vec_of(s->scale), score, -lse[half]));
                rows[i][half] =
                    probability[half] * (*(const vec *)(ds + at + half * LANES) - delta[half]);
            }
            store_panel_row(p + at / STEP, probability);
            store_panel_row(ds + at / STEP, rows[i]);
        }
        if (PAIRS)
            store_words(columns + t / STEP * TILE_N, rows);
    }
}

// Where some queries of a head start in qkv, dout, out, lse, dqkv and delta. delta is the sum over
// D of out dout, for each query.
struct query_rows {
    const real *q, *dout, *out;
    const float *lse;
    real *dq;
    float *delta;
};

static struct query_rows skip_queries(const struct attention_sizes *s, const struct query_rows *of,
                                      size_t n)
{
    const size_t in_qkv = n * s->qkv_row, in_out = n * s->out_row;
    return (struct query_rows){of->q + in_qkv, of->dout + in_out, of->out + in_out,
                               of->lse + n,    of->dq + in_qkv,   of->delta + n};
}

// Computes p, ds, delta and dq of a tile of n <= TILE_N queries.
static void attend_tile_backward(const struct attention_sizes *s, const struct head_memory *w,
                                 float *p, float *ds, struct query_rows of, size_t n)
{
    float lse[TILE_N] __attribute__((aligned(64))) = {0};
    float delta[TILE_N] __attribute__((aligned(64))) = {0};
    for (size_t i = 0; i < n; i++) {
        const real *out = of.out + i * s->out_row, *dout = of.dout + i * s->out_row;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t d = 0; d < s->D; d++)
            sum += to_float(out[d]) * to_float(dout[d]);
        of.delta[i] = delta[i] = sum;
        lse[i] = LOG2_E * of.lse[i];
    }
    pack_transposed(w->tile_q, of.q, s->qkv_row, n, s->D);
    pack_transposed(w->tile_dout, of.dout, s->out_row, n, s->D);
    // The products below leave time to fetch the next tile.
    for (size_t i = n; i < 2 * n; i++) {
        prefetch_reals(of.q + i * s->qkv_row, s->D);
        prefetch_reals(of.out + i * s->out_row, s->D);
        prefetch_reals(of.dout + i * s->out_row, s->D);
    }
    multiply_row_major(p, s->T_rows, s->D_words, w->keys, w->tile_q, NULL);
    multiply_row_major(ds, s->T_rows, s->D_words, w->values, w->tile_dout, NULL);
    differentiate_softmax(s, p, ds, w->tile_ds, (const vec *)lse, (const vec *)delta);
    const float *columns = PAIRS ? w->tile_ds : ds;
    const size_t words = count_words(s->T);
    for (size_t k = 0; k < words; k += BLOCK_K)
        multiply_column_major(w->tile_dq, k > 0, s->D_rows, min(BLOCK_K, words - k),
                              w->key_columns + k * s->D, s->D, columns + k * TILE_N);
    vec *x = (vec *)w->tile_dq;
    for (size_t d = 0; d < 2 * s->D; d++)
        x[d] *= LN_2 * s->scale;
    transpose_out(of.dq, s->qkv_row, w->tile_dq, TILE_N, s->D, n);
}

// Computes dq, dk, dv and delta of one head.
static void attend_head_backward(const struct attention_sizes *s, const struct head_memory *w,
                                 const struct query_rows *all)
{
    const size_t block = BLOCK_TILES * TILE_N;
    const real *keys = all->q + s->out_row;
    copy_rows(s, w->keys, keys, 0, s->T);
    copy_rows(s, w->values, keys + s->out_row, 0, s->T);
    if (PAIRS)
        copy_columns(s, w->key_columns, keys, 0, s->T);
    for (size_t first = 0; first < s->T; first += block) {
        const size_t n = min(block, s->T - first);
        const struct query_rows of = skip_queries(s, all, first);
        for (size_t i = 0; i < n; i += TILE_N)
            attend_tile_backward(s, w, w->p + i * s->T_rows, w->ds + i * s->T_rows,
                                 skip_queries(s, &of, i), min(TILE_N, n - i));
        pack_panels(w->q, of.q, s->qkv_row, n, s->D);
        pack_panels(w->dout, of.dout, s->out_row, n, s->D);
        for (size_t d = 0; d < s->D; d += TILE_N) {
            const size_t words = count_words(n), at = d * s->T_rows;
            multiply_panels(w->dk + at, first > 0, s->T_rows, words, w->ds, w->q + d * words);
            multiply_panels(w->dv + at, first > 0, s->T_rows, words, w->p, w->dout + d * words);
        }
    }
    real *dk = all->dq + s->out_row, *dv = dk + s->out_row;
    unpack_panels(dk, s->qkv_row, w->dk, s->T_rows, LN_2 * s->scale, s->T, s->D);
    unpack_panels(dv, s->qkv_row, w->dv, s->T_rows, 1, s->T, s->D);
}

struct attention_backward {
    struct attention_sizes s;
    real *dqkv;
    float *delta;
    const real *dout, *qkv, *out;
    const float *lse;
    float *memory; // (threads,memory_size): see struct head_memory
    size_t memory_size;
};

static void attend_heads_backward(const void *context, struct team_range range)
{
    const struct attention_backward *p = context;
    const struct attention_sizes *s = &p->s;
    const struct head_memory w = place_head_memory(s, p->memory + range.member * p->memory_size);
    for (size_t head = range.first; head < range.end; head++) {
        const size_t in_out = head / s->H * s->T * s->out_row + head % s->H * s->D;
        const size_t in_qkv = head / s->H * s->T * s->qkv_row + head % s->H * s->D;
        const struct query_rows all = {p->qkv + in_qkv,  p->dout + in_out,
                                       p->out + in_out,  p->lse + head * s->T,
                                       p->dqkv + in_qkv, p->delta + head * s->T};
        attend_head_backward(s, &w, &all);
    }
}

void CPU_FN(attention_backward)(struct device *device, act *dqkv, float *delta, const act *dout,
                                const act *qkv, const act *out, const float *lse, size_t B,
                                size_t T, size_t H, size_t D)
{
    struct attention_backward p = {.s = find_attention_sizes(T, H, D),
                                   .dqkv = reals(dqkv),
                                   .delta = delta,
                                   .dout = const_reals(dout),
                                   .qkv = const_reals(qkv),
                                   .out = const_reals(out),
                                   .lse = lse};
    p.memory_size = head_memory_size(&p.s);
    p.memory = ISA_FN(scratch)(device, (size_t)device->threads * p.memory_size);
    if (p.memory)
        team_for(team_of(device, B * H * T * T * D / 16), B * H, 1, attend_heads_backward, &p);
}
