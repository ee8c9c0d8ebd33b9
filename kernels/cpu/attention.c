// Self-attention, a tile of TILE_N queries at a time. SPDX-License-Identifier: MIT
//
// No T x T matrix is stored; backward computes the probabilities again from lse (Dao et al.,
// "FlashAttention", 2022).
// A tile of scores is stored as (keys,queries), so that the softmax's row_max and row_sum, one for
// each query, need no reduction across the lanes of a vector, and the products read the tile as it
// is. The softmax uses powers of 2: the keys are scaled by log2(e) / sqrt(D), so that the scores
// are exponents of 2.
#include "kernels/cpu/tile.h"

#define BLOCK_K       256 // rows of a panel that fit into the first-level cache
#define BLOCK_TILES   4   // tiles of queries that are added to dk and dv at a time
#define PREFETCH_ROWS 8

#define LOG2_E 1.44269504f
#define LN_2   0.69314718f

// A left factor in runs of `run` columns: element (i,k) of a run is at[i * row + k * column]; each
// run starts `next` floats after the one before.
struct left_factor {
    const float *at;
    size_t row, column, run, next;
};

// The micro-kernel: sums (rows,TILE_N) += A B, B (K,TILE_N), with K within a run.
INLINE void add_to_sums(vec (*sums)[2], size_t rows, size_t K, struct left_factor a, const float *b)
{
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a.at += a.column, b += TILE_N) {
        const vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
#pragma GCC unroll 12
        for (size_t i = 0; i < rows; i++) {
            sums[i][0] = vec_multiply_add(a.at[i * a.row], b0, sums[i][0]);
            sums[i][1] = vec_multiply_add(a.at[i * a.row], b1, sums[i][1]);
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

// Rounds up to a number of rows that multiply_panel accepts: even, and at least 4.
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

// c (M,TILE_N) = A B; += if `add`. A is in panels (M,TILE_N).
static void multiply_panels(float *c, bool add, size_t M, size_t K, const float *a, const float *b)
{
    multiply_panel(c, add, M, K, (struct left_factor){a, TILE_N, 1, TILE_N, M * TILE_N}, b, NULL);
}

// to (n,D) = scale * rows of D that are `stride` apart.
static void copy_scaled_rows(float *to, const real *from, size_t stride, float scale, size_t n,
                             size_t D)
{
    for (size_t t = 0; t < n; t++, to += D, from += stride) {
        prefetch_reals(from + PREFETCH_ROWS * stride, D);
        size_t d = 0;
        for (; d + LANES <= D; d += LANES)
            vec_store(to + d, scale * vec_load_real(from + d));
        for (; d < D; d++)
            to[d] = scale * to_float(from[d]);
    }
}

// Packs n <= TILE_N rows of D, `stride` apart, as the columns of a panel (D,TILE_N), padded with
// zeros.
static void pack_transposed(float *to, const real *from, size_t stride, size_t n, size_t D)
{
    if (n < TILE_N)
        memset(to, 0, D * TILE_N * sizeof *to);
    transpose_in(to, TILE_N, from, stride, n, D);
}

// Sizes that forward and backward share; those of working memory are in floats.
struct attention_sizes {
    size_t T, H, D;
    size_t qkv_row, out_row; // elements from one token to the next
    size_t T_rows, D_rows;   // T and D, rounded up by round_up_rows
    size_t keys;    // a head's keys or values: (T_rows,D), and padding that multiply_panel reads
    size_t scores;  // (T_rows,TILE_N): a tile of scores, or of probabilities
    size_t queries; // (D_rows,TILE_N): a tile of queries, or another array of that size
    float scale;    // of the scores, which are exponents of 2
};

static struct attention_sizes find_attention_sizes(size_t T, size_t H, size_t D)
{
    struct attention_sizes s = {.T = T, .H = H, .D = D, .qkv_row = 3 * H * D, .out_row = H * D};
    s.T_rows = round_up_rows(T);
    s.D_rows = round_up_rows(D);
    s.keys = round_up(s.T_rows * D + 3, 16);
    s.scores = s.T_rows * TILE_N;
    s.queries = s.D_rows * TILE_N;
    s.scale = LOG2_E / sqrtf((float)D);
    return s;
}

// Copies tokens first .. first + n - 1 of a head's keys k, scaled, and values to (T_rows,D) each;
// the values follow the keys.
static void copy_keys(const struct attention_sizes *s, float *keys, const real *k, size_t first,
                      size_t n)
{
    float *values = keys + s->keys;
    const real *from = k + first * s->qkv_row;
    copy_scaled_rows(keys + first * s->D, from, s->qkv_row, s->scale, n, s->D);
    copy_scaled_rows(values + first * s->D, from + s->out_row, s->qkv_row, 1, n, s->D);
    if (first + n < s->T)
        return;
    // The rows past the last one repeat it, so that they don't change row_max.
    for (size_t i = s->T * s->D; i < s->keys; i++)
        keys[i] = keys[i - s->D], values[i] = values[i - s->D];
}

// The softmax of LANES queries, before its division by row_sum: turns each score x into
// 2^(x - row_max). Returns the row_sum.
static vec exponentiate_scores(float *scores, size_t T, vec row_max)
{
    vec row_sum = {0};
    for (size_t t = 0; t < T; t++) {
        vec *x = (vec *)(scores + t * TILE_N);
        row_sum += *x = vec_exp2(*x - row_max);
    }
    return row_sum;
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
    multiply_row_major(scores, s->T_rows, s->D, keys, queries, row_max);
    for (size_t t = 0; t < s->T; t += BLOCK_K) {
        const size_t rows = min(BLOCK_K, s->T - t);
        float *block = scores + t * TILE_N;
        for (size_t half = 0; half < 2; half++)
            row_sum[half] += exponentiate_scores(block + half * LANES, rows, row_max[half]);
        multiply_column_major(out, t > 0, s->D_rows, rows, values + t * s->D, s->D, block);
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
    float *keys, *values;                // (T_rows,D)
    float *dk, *dv;                      // (T_rows,D) in panels
    float *p, *ds;                       // (T_rows, queries of a block) in panels: probabilities,
                                         // and the gradients of the scores
    float *q, *dout;                     // (queries of a block, D) in panels
    float *tile_q, *tile_dout, *tile_dq; // (D_rows,TILE_N)
};

static size_t head_memory_size(const struct attention_sizes *s)
{
    return 2 * (s->keys + (divide_up(s->D, TILE_N) + BLOCK_TILES) * s->scores) +
           2 * BLOCK_TILES * TILE_N * round_up(s->D, TILE_N) + 3 * s->queries;
}

static struct head_memory place_head_memory(const struct attention_sizes *s, float *at)
{
    struct head_memory w = {.keys = at, .values = at + s->keys, .dk = at + 2 * s->keys};
    w.dv = w.dk + divide_up(s->D, TILE_N) * s->scores;
    w.p = w.dv + divide_up(s->D, TILE_N) * s->scores;
    w.ds = w.p + BLOCK_TILES * s->scores;
    w.q = w.ds + BLOCK_TILES * s->scores;
    w.dout = w.q + BLOCK_TILES * TILE_N * round_up(s->D, TILE_N);
    w.tile_q = w.dout + BLOCK_TILES * TILE_N * round_up(s->D, TILE_N);
    w.tile_dout = w.tile_q + s->queries;
    w.tile_dq = w.tile_dout + s->queries;
    return w;
}

// Packs n rows of D, `stride` apart, into panels (n,TILE_N), the last padded with zeros.
static void pack_panels(float *to, const real *from, size_t stride, size_t n, size_t D)
{
    for (size_t d = 0; d < D; d += TILE_N, to += n * TILE_N) {
        const size_t width = min(TILE_N, D - d);
        if (width < TILE_N)
            memset(to, 0, n * TILE_N * sizeof *to);
        load_tile(to, TILE_N, from + d, stride, n, width);
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

// The gradient of the softmax for LANES queries and T keys. p: scores in, probabilities out.
// ds: the gradients of the probabilities in, those of the scores out.
static void differentiate_softmax(float *p, float *ds, size_t T, vec lse, vec delta)
{
    for (size_t t = 0; t < T * TILE_N; t += TILE_N) {
        const vec probability = vec_exp2(*(const vec *)(p + t) - lse);
        *(vec *)(p + t) = probability;
        *(vec *)(ds + t) = probability * (*(const vec *)(ds + t) - delta);
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
    multiply_row_major(p, s->T_rows, s->D, w->keys, w->tile_q, NULL);
    multiply_row_major(ds, s->T_rows, s->D, w->values, w->tile_dout, NULL);
    for (size_t j = 0; j < TILE_N; j += LANES)
        differentiate_softmax(p + j, ds + j, s->T, *(vec *)(lse + j), *(vec *)(delta + j));
    for (size_t t = 0; t < s->T; t += BLOCK_K)
        multiply_column_major(w->tile_dq, t > 0, s->D_rows, min(BLOCK_K, s->T - t),
                              w->keys + t * s->D, s->D, ds + t * TILE_N);
    vec *x = (vec *)w->tile_dq;
    for (size_t d = 0; d < 2 * s->D; d++)
        x[d] *= LN_2; // the scaled keys contain the rest of the scale
    transpose_out(of.dq, s->qkv_row, w->tile_dq, TILE_N, s->D, n);
}

// Computes dq, dk, dv and delta of one head.
static void attend_head_backward(const struct attention_sizes *s, const struct head_memory *w,
                                 const struct query_rows *all)
{
    const size_t block = BLOCK_TILES * TILE_N;
    copy_keys(s, w->keys, all->q + s->out_row, 0, s->T);
    for (size_t first = 0; first < s->T; first += block) {
        const size_t n = min(block, s->T - first);
        const struct query_rows of = skip_queries(s, all, first);
        for (size_t i = 0; i < n; i += TILE_N)
            attend_tile_backward(s, w, w->p + i * s->T_rows, w->ds + i * s->T_rows,
                                 skip_queries(s, &of, i), min(TILE_N, n - i));
        pack_panels(w->q, of.q, s->qkv_row, n, s->D);
        pack_panels(w->dout, of.dout, s->out_row, n, s->D);
        for (size_t d = 0; d < s->D; d += TILE_N) {
            multiply_panels(w->dk + d * s->T_rows, first > 0, s->T_rows, n, w->ds, w->q + d * n);
            multiply_panels(w->dv + d * s->T_rows, first > 0, s->T_rows, n, w->p, w->dout + d * n);
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
