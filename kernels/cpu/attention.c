// Self-attention, a strip of TILE_N queries at a time; no T x T matrix is kept, and backward makes
// the weights again from lse (Dao et al., "FlashAttention", 2022). A strip's weights are (keys,
// queries): its softmax needs no sums across vectors, and products read it as it is. The keys carry
// the scale of the logits, whose base is 2. SPDX-License-Identifier: MIT
#include <omp.h>

#include "kernels/cpu/product.h"

#define BLOCK_K      256 // so deep a strip stays in the first-level cache
#define BLOCK_STRIPS 4   // strips of queries whose part of dk and dv is found at once
#define AHEAD        8   // rows of prefetching

#define LOG2_E 1.44269504f
#define LN_2   0.69314718f

static size_t strips_of(size_t n)
{
    return (n + TILE_N - 1) / TILE_N;
}

// A left factor: element (i,k) is at[i * row + k * column] within a run of columns; every run
// starts `next` after the one before.
struct left {
    const float *at;
    size_t row, column, run, next;
};

// sums (rows,TILE_N) += A B, B (K,TILE_N), for K within a run.
INLINE void add_products(vec (*sums)[2], size_t rows, size_t K, struct left a, const float *b)
{
#pragma GCC unroll 4
    for (size_t k = 0; k < K; k++, a.at += a.column, b += TILE_N) {
        const vec b0 = *(const vec *)b, b1 = *(const vec *)(b + LANES);
#pragma GCC unroll 6
        for (size_t i = 0; i < rows; i++) {
            sums[i][0] = vec_multiply_add(a.at[i * a.row], b0, sums[i][0]);
            sums[i][1] = vec_multiply_add(a.at[i * a.row], b1, sums[i][1]);
        }
    }
}

// c (rows,TILE_N) = or += A B. The sums stay in registers: rows are a constant, at most 6.
INLINE void multiply_rows(float *c, bool add, size_t rows, size_t K, struct left a, const float *b,
                          vec *max)
{
    vec sums[6][2], *to = (vec *)c;
#pragma GCC unroll 6
    for (size_t i = 0; i < rows; i++)
        sums[i][0] = sums[i][1] = vec_of(0);
    for (; K > a.run; K -= a.run, a.at += a.next, b += a.run * TILE_N)
        add_products(sums, rows, a.run, a, b);
    add_products(sums, rows, K, a, b);
#pragma GCC unroll 6
    for (size_t i = 0; i < rows; i++) {
        if (add)
            sums[i][0] += to[2 * i], sums[i][1] += to[2 * i + 1];
        to[2 * i] = sums[i][0], to[2 * i + 1] = sums[i][1];
        if (max)
            max[0] = vec_max(max[0], sums[i][0]), max[1] = vec_max(max[1], sums[i][1]);
    }
}

// Rows that `multiply` takes: an even number, and at least 4.
static size_t whole_rows(size_t rows)
{
    return rows < 4 ? 4 : round_up(rows, 2);
}

// c (M,TILE_N) = or += A (M,K) B (K,TILE_N). max is raised to the columns' maxima, where not NULL.
INLINE void multiply(float *c, bool add, size_t M, size_t K, struct left a, const float *b,
                     vec *max)
{
    for (; M % 6; M -= 4, c += 4 * TILE_N, a.at += 4 * a.row)
        multiply_rows(c, add, 4, K, a, b, max);
    for (; M; M -= 6, c += 6 * TILE_N, a.at += 6 * a.row)
        multiply_rows(c, add, 6, K, a, b, max);
}

// c (M,TILE_N) = A B, A in rows.
static void multiply_by_rows(float *c, size_t M, size_t K, const float *a, const float *b, vec *max)
{
    size_t k = 0;
    for (; K - k > BLOCK_K; k += BLOCK_K)
        multiply(c, k > 0, M, BLOCK_K, (struct left){a + k, K, 1, BLOCK_K, 0}, b + k * TILE_N,
                 NULL);
    multiply(c, k > 0, M, K - k, (struct left){a + k, K, 1, BLOCK_K, 0}, b + k * TILE_N, max);
}

// c (M,TILE_N) = or += A B, A in columns, `column` apart; K is BLOCK_K at most.
static void multiply_by_columns(float *c, bool add, size_t M, size_t K, const float *a,
                                size_t column, const float *b)
{
    multiply(c, add, M, K, (struct left){a, 1, column, BLOCK_K, 0}, b, NULL);
}

// c (M,TILE_N) = or += A B, A in strips of TILE_N columns.
static void multiply_by_strips(float *c, bool add, size_t M, size_t K, const float *a,
                               const float *b)
{
    multiply(c, add, M, K, (struct left){a, TILE_N, 1, TILE_N, M * TILE_N}, b, NULL);
}

INLINE void prefetch_row(const float *row, size_t D)
{
    for (size_t d = 0; d < D; d += 16)
        __builtin_prefetch(row + d);
}

// Copies rows (n,D), `stride` apart, times scale.
static void copy_rows(float *to, const float *from, size_t stride, float scale, size_t n, size_t D)
{
    for (size_t t = 0; t < n; t++, to += D, from += stride) {
        prefetch_row(from + AHEAD * stride, D);
        size_t d = 0;
        for (; d + LANES <= D; d += LANES)
            *(vec_u *)(to + d) = scale * *(const vec_u *)(from + d);
        for (; d < D; d++)
            to[d] = scale * from[d];
    }
}

// Packs rows (n,D) transposed, as B (D,TILE_N), padded with zeros.
static void pack_transposed(float *to, const float *from, size_t stride, size_t n, size_t D)
{
    if (n < TILE_N)
        memset(to, 0, D * TILE_N * sizeof *to);
    transpose(to, TILE_N, from, stride, n, D);
}

// Sizes that both directions share.
struct sizes {
    size_t T, H, D;
    size_t qkv_row, out_row; // of one token
    size_t T_rows, D_rows;   // whole rows
    size_t keys;    // of a head's keys, or values: (T_rows,D) and what `multiply` reads past
    size_t strip;   // (T_rows,TILE_N): the weights of a strip
    size_t queries; // (D_rows,TILE_N): a strip's queries, or what else is as large
    float scale;    // of logits to base 2
};

static struct sizes find_sizes(size_t T, size_t H, size_t D)
{
    struct sizes s = {.T = T, .H = H, .D = D, .qkv_row = 3 * H * D, .out_row = H * D};
    s.T_rows = whole_rows(T);
    s.D_rows = whole_rows(D);
    s.keys = round_up(s.T_rows * D + 3, 16);
    s.strip = s.T_rows * TILE_N;
    s.queries = s.D_rows * TILE_N;
    s.scale = LOG2_E / sqrtf((float)D);
    return s;
}

// Copies n of a head's keys and values, from number `first` on, to (T_rows,D) each.
static void copy_keys(const struct sizes *s, float *keys, const float *k, size_t first, size_t n)
{
    float *values = keys + s->keys;
    const float *from = k + first * s->qkv_row;
    copy_rows(keys + first * s->D, from, s->qkv_row, s->scale, n, s->D);
    copy_rows(values + first * s->D, from + s->out_row, s->qkv_row, 1, n, s->D);
    if (first + n < s->T)
        return;
    // Rows past the last repeat it, so that maxima stay what they are.
    for (size_t i = s->T * s->D; i < s->keys; i++)
        keys[i] = keys[i - s->D], values[i] = values[i - s->D];
}

// Makes each x of LANES columns 2^(x - max). Returns their sums.
static vec exponentiate(float *strip, size_t T, vec max)
{
    vec sum = {0};
    for (size_t t = 0; t < T; t++) {
        vec *x = (vec *)(strip + t * TILE_N);
        sum += *x = vec_exp2(*x - max);
    }
    return sum;
}

// What all heads of a call share.
struct attention {
    struct sizes s;
    float *out, *lse;
    const float *qkv;
};

static const float *keys_of(const struct attention *p, size_t head)
{
    const struct sizes *s = &p->s;
    return p->qkv + head / s->H * s->T * s->qkv_row + head % s->H * s->D + s->out_row;
}

// One strip of a head's queries.
static void attend(const struct attention *p, const float *keys, float *work, size_t head,
                   size_t first)
{
    const struct sizes *s = &p->s;
    const size_t n = min(TILE_N, s->T - first), at = head / s->H * s->T + first;
    const float *values = keys + s->keys;
    float *queries = work, *out = queries + s->queries, *strip = out + s->queries;
    pack_transposed(queries, p->qkv + at * s->qkv_row + head % s->H * s->D, s->qkv_row, n, s->D);
    vec max[2] = {vec_of(-INFINITY), vec_of(-INFINITY)}, sums[2] = {{0}, {0}};
    multiply_by_rows(strip, s->T_rows, s->D, keys, queries, max);
    for (size_t t = 0; t < s->T; t += BLOCK_K) {
        const size_t rows = min(BLOCK_K, s->T - t);
        float *weights = strip + t * TILE_N;
        for (size_t half = 0; half < 2; half++)
            sums[half] += exponentiate(weights + half * LANES, rows, max[half]);
        multiply_by_columns(out, t > 0, s->D_rows, rows, values + t * s->D, s->D, weights);
    }
    const vec norm[2] = {1 / sums[0], 1 / sums[1]};
    vec *x = (vec *)out;
    for (size_t d = 0; d < 2 * s->D; d += 2)
        x[d] *= norm[0], x[d + 1] *= norm[1];
    transpose(p->out + at * s->out_row + head % s->H * s->D, s->out_row, out, TILE_N, s->D, n);
    if (!p->lse)
        return;
    const float *highest = (const float *)max, *sum = (const float *)sums;
    float lse[TILE_N];
#pragma omp simd
    for (size_t i = 0; i < TILE_N; i++)
        lse[i] = multiply_add(LN_2, highest[i], simd_log(sum[i]));
    memcpy(p->lse + head * s->T + first, lse, n * sizeof *lse);
}

void CPU_FN(attention)(struct device *device, act *out, float *lse, const act *qkv, size_t B,
                       size_t T, size_t H, size_t D)
{
    const struct attention p = {find_sizes(T, H, D), floats(out), lse, const_floats(qkv)};
    const struct sizes *s = &p.s;
    const size_t heads = B * H, threads = (size_t)device->threads;
    const size_t strips = strips_of(T), each = 2 * s->keys;
    const size_t work_size = 2 * s->queries + s->strip;
    // A thread takes whole heads; where these are few, strips of queries are shared out.
    const bool few = heads < 4 * threads;
    const size_t copies = (few ? heads : threads) * each;
    float *keys = CPU_FN(scratch)(device, copies + threads * work_size);
    if (!keys)
        return;

#pragma omp parallel num_threads(threads_for(device, heads *T *T *D / 16))
    {
        const size_t thread = (size_t)omp_get_thread_num();
        float *work = keys + copies + thread * work_size, *own = keys + thread * each;
        if (few) {
#pragma omp for
            for (size_t n = 0; n < heads * strips; n++) {
                const size_t head = n / strips, first = n % strips * TILE_N;
                copy_keys(s, keys + head * each, keys_of(&p, head), first, min(TILE_N, T - first));
            }
#pragma omp for schedule(dynamic)
            for (size_t n = 0; n < heads * strips; n++)
                attend(&p, keys + n / strips * each, work, n / strips, n % strips * TILE_N);
        } else {
#pragma omp for schedule(dynamic)
            for (size_t head = 0; head < heads; head++) {
                copy_keys(s, own, keys_of(&p, head), 0, T);
                for (size_t first = 0; first < T; first += TILE_N)
                    attend(&p, own, work, head, first);
            }
        }
    }
}

// The working memory of one head's backward pass.
struct backward {
    float *keys, *values;                   // (T_rows,D)
    float *dk, *dv;                         // (T_rows,D) in strips
    float *p, *ds;                          // (T_rows, queries of a block) in strips: weights,
                                            // and the gradients of logits
    float *q, *dout;                        // B (queries of a block, D) in strips
    float *strip_q, *strip_dout, *strip_dq; // (D_rows,TILE_N)
};

static size_t backward_size(const struct sizes *s)
{
    return 2 * (s->keys + (strips_of(s->D) + BLOCK_STRIPS) * s->strip) +
           2 * BLOCK_STRIPS * TILE_N * round_up(s->D, TILE_N) + 3 * s->queries;
}

static struct backward place_backward(const struct sizes *s, float *at)
{
    struct backward w = {.keys = at, .values = at + s->keys, .dk = at + 2 * s->keys};
    w.dv = w.dk + strips_of(s->D) * s->strip;
    w.p = w.dv + strips_of(s->D) * s->strip;
    w.ds = w.p + BLOCK_STRIPS * s->strip;
    w.q = w.ds + BLOCK_STRIPS * s->strip;
    w.dout = w.q + BLOCK_STRIPS * TILE_N * round_up(s->D, TILE_N);
    w.strip_q = w.dout + BLOCK_STRIPS * TILE_N * round_up(s->D, TILE_N);
    w.strip_dout = w.strip_q + s->queries;
    w.strip_dq = w.strip_dout + s->queries;
    return w;
}

// Packs rows (n,D) as B (n,D): strips of TILE_N columns, the last padded with zeros.
static void pack_strips(float *to, const float *from, size_t stride, size_t n, size_t D)
{
    for (size_t d = 0; d < D; d += TILE_N, to += n * TILE_N) {
        const size_t width = min(TILE_N, D - d);
        if (width < TILE_N)
            memset(to, 0, n * TILE_N * sizeof *to);
        copy_tile(to, TILE_N, from + d, stride, n, width);
    }
}

// Copies rows (n,D), times scale, from strips (M,TILE_N).
static void unpack_strips(float *to, size_t stride, const float *from, size_t M, float scale,
                          size_t n, size_t D)
{
    for (size_t t = 0; t < n; t++)
        for (size_t d = 0; d < D; d += TILE_N) {
            const vec *x = (const vec *)(from + d * M + t * TILE_N);
            const vec row[2] = {scale * x[0], scale * x[1]};
            copy_tile(to + t * stride + d, 0, (const float *)row, 0, 1, min(TILE_N, D - d));
        }
}

// Of LANES columns, T deep: p from logits to weights, ds from the gradients of weights to those of
// logits.
static void differentiate(float *p, float *ds, size_t T, vec lse, vec delta)
{
    for (size_t t = 0; t < T * TILE_N; t += TILE_N) {
        const vec weight = vec_exp2(*(const vec *)(p + t) - lse);
        *(vec *)(p + t) = weight;
        *(vec *)(ds + t) = weight * (*(const vec *)(ds + t) - delta);
    }
}

// Queries of a head: theirs of qkv, dout, out, lse, dqkv and delta.
struct queries {
    const float *q, *dout, *out, *lse;
    float *dq, *delta;
};

static struct queries skip_queries(const struct sizes *s, const struct queries *of, size_t n)
{
    const size_t in_qkv = n * s->qkv_row, in_out = n * s->out_row;
    return (struct queries){of->q + in_qkv, of->dout + in_out, of->out + in_out,
                            of->lse + n,    of->dq + in_qkv,   of->delta + n};
}

// A strip of n queries: p, ds, and of dqkv and delta.
static void attend_backward(const struct sizes *s, const struct backward *w, float *p, float *ds,
                            struct queries of, size_t n)
{
    float lse[TILE_N] __attribute__((aligned(64))) = {0};
    float delta[TILE_N] __attribute__((aligned(64))) = {0};
    for (size_t i = 0; i < n; i++) {
        const float *out = of.out + i * s->out_row, *dout = of.dout + i * s->out_row;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t d = 0; d < s->D; d++)
            sum += out[d] * dout[d];
        of.delta[i] = delta[i] = sum;
        lse[i] = LOG2_E * of.lse[i];
    }
    pack_transposed(w->strip_q, of.q, s->qkv_row, n, s->D);
    pack_transposed(w->strip_dout, of.dout, s->out_row, n, s->D);
    // The products leave time to fetch the next strip.
    for (size_t i = n; i < 2 * n; i++) {
        prefetch_row(of.q + i * s->qkv_row, s->D);
        prefetch_row(of.out + i * s->out_row, s->D);
        prefetch_row(of.dout + i * s->out_row, s->D);
    }
    multiply_by_rows(p, s->T_rows, s->D, w->keys, w->strip_q, NULL);
    multiply_by_rows(ds, s->T_rows, s->D, w->values, w->strip_dout, NULL);
    for (size_t j = 0; j < TILE_N; j += LANES)
        differentiate(p + j, ds + j, s->T, *(vec *)(lse + j), *(vec *)(delta + j));
    for (size_t t = 0; t < s->T; t += BLOCK_K)
        multiply_by_columns(w->strip_dq, t > 0, s->D_rows, min(BLOCK_K, s->T - t),
                            w->keys + t * s->D, s->D, ds + t * TILE_N);
    vec *x = (vec *)w->strip_dq;
    for (size_t d = 0; d < 2 * s->D; d++)
        x[d] *= LN_2; // the keys have the rest of the scale
    transpose(of.dq, s->qkv_row, w->strip_dq, TILE_N, s->D, n);
}

// A head: dq, dk, dv and delta.
static void differentiate_head(const struct sizes *s, const struct backward *w,
                               const struct queries *all)
{
    const size_t block = BLOCK_STRIPS * TILE_N;
    copy_keys(s, w->keys, all->q + s->out_row, 0, s->T);
    for (size_t first = 0; first < s->T; first += block) {
        const size_t n = min(block, s->T - first);
        const struct queries of = skip_queries(s, all, first);
        for (size_t i = 0; i < n; i += TILE_N)
            attend_backward(s, w, w->p + i * s->T_rows, w->ds + i * s->T_rows,
                            skip_queries(s, &of, i), min(TILE_N, n - i));
        pack_strips(w->q, of.q, s->qkv_row, n, s->D);
        pack_strips(w->dout, of.dout, s->out_row, n, s->D);
        for (size_t d = 0; d < s->D; d += TILE_N) {
            multiply_by_strips(w->dk + d * s->T_rows, first > 0, s->T_rows, n, w->ds, w->q + d * n);
            multiply_by_strips(w->dv + d * s->T_rows, first > 0, s->T_rows, n, w->p,
                               w->dout + d * n);
        }
    }
    float *dk = all->dq + s->out_row, *dv = dk + s->out_row;
    unpack_strips(dk, s->qkv_row, w->dk, s->T_rows, LN_2 * s->scale, s->T, s->D);
    unpack_strips(dv, s->qkv_row, w->dv, s->T_rows, 1, s->T, s->D);
}

void CPU_FN(attention_backward)(struct device *device, act *dqkv, float *delta, const act *dout,
                                const act *qkv, const act *out, const float *lse, size_t B,
                                size_t T, size_t H, size_t D)
{
    const struct sizes s = find_sizes(T, H, D);
    const size_t each = backward_size(&s);
    float *scratch = CPU_FN(scratch)(device, (size_t)device->threads * each);
    if (!scratch)
        return;

#pragma omp parallel for schedule(dynamic) num_threads(threads_for(device, B *H *T *T *D / 16))
    for (size_t head = 0; head < B * H; head++) {
        const size_t in_out = head / H * T * s.out_row + head % H * D;
        const size_t in_qkv = head / H * T * s.qkv_row + head % H * D;
        const struct queries all = {const_floats(qkv) + in_qkv, const_floats(dout) + in_out,
                                    const_floats(out) + in_out, lse + head * T,
                                    floats(dqkv) + in_qkv,      delta + head * T};
        const struct backward w = place_backward(&s, scratch + (size_t)omp_get_thread_num() * each);
        differentiate_head(&s, &w, &all);
    }
}
