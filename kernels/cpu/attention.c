// Self-attention, a block of query rows at a time: their logits against all keys fit the second-
// level cache, and no T x T matrix is kept; backward makes the weights again from lse (Dao et al.,
// "FlashAttention", 2022). SPDX-License-Identifier: MIT
#include <omp.h>

#include "kernels/cpu/product.h"

#define BLOCK_T 48 // query rows at once: a multiple of TILE_M

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

// c (M,N), its rows c_row apart, = or += A (M,K) B: element (i,k) of A at a[i * a_row + k *
// a_column]; B (K,N) packed in strips of TILE_N columns. M and N are multiples of TILE_M and
// TILE_N.
INLINE void multiply(float *c, size_t c_row, bool add, size_t M, size_t N, size_t K, const float *a,
                     size_t a_row, size_t a_column, const float *b)
{
    for (size_t j = 0; j < N; j += TILE_N)
        for (size_t i = 0; i < M; i += TILE_M)
            tile_product(c + i * c_row + j, c_row, add, K, a + i * a_row, a_row, a_column,
                         b + j * K);
}

// Copies rows (n,D), `stride` apart, times scale, to rows D_padded apart, and zeros to n_padded.
static void copy_rows(float *to, const float *from, size_t stride, float scale, size_t n, size_t D,
                      size_t n_padded, size_t D_padded)
{
    for (size_t t = 0; t < n; t++)
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            to[t * D_padded + d] = scale * from[t * stride + d];
    memset(to + n * D_padded, 0, (n_padded - n) * D_padded * sizeof *to);
}

// Packs rows (n,D) as B (n,D): strips of TILE_N columns, n deep, the last padded with zeros.
static void pack_rows(float *to, const float *from, size_t stride, size_t n, size_t D)
{
    for (size_t d = 0; d < D; d += TILE_N, to += n * TILE_N) {
        const size_t width = min(TILE_N, D - d);
        if (width < TILE_N)
            memset(to, 0, n * TILE_N * sizeof *to);
        copy_tile(to, TILE_N, from + d, stride, n, width);
    }
}

// Packs rows (n,D) transposed, as B (D,n): strips of TILE_N rows, D deep, padded with zeros.
static void pack_transposed(float *to, const float *from, size_t stride, size_t n, size_t D)
{
    for (size_t t = 0; t < n; t += TILE_N, to += TILE_N * D) {
        const size_t width = min(TILE_N, n - t);
        if (width < TILE_N)
            memset(to, 0, TILE_N * D * sizeof *to);
        for (size_t j = 0; j < width; j++)
            for (size_t d = 0; d < D; d++)
                to[d * TILE_N + j] = from[(t + j) * stride + d];
    }
}

// row (T) = exp(row - its maximum). Returns the sum.
static float softmax_row(float *row, size_t T, float *max)
{
    float highest = row[0], sum = 0;
#pragma omp simd reduction(max : highest)
    for (size_t j = 0; j < T; j++)
        highest = row[j] > highest ? row[j] : highest;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < T; j++) {
        row[j] = simd_exp(row[j] - highest);
        sum += row[j];
    }
    *max = highest;
    return sum;
}

// Sizes that both directions share. `padded` ones are multiples of the tile's sides.
struct sizes {
    size_t T, H, D;
    size_t qkv_row, out_row; // of one token
    size_t T_columns, D_columns;
    size_t T_row;       // of the weights: not a power of two, so that columns spread over the cache
    size_t block, rows; // query rows of a block, and padded to whole tiles
    float scale;
};

static struct sizes find_sizes(size_t T, size_t H, size_t D)
{
    size_t block = min(BLOCK_T, T);
    return (struct sizes){T,
                          H,
                          D,
                          3 * H * D,
                          H * D,
                          round_up(T, TILE_N),
                          round_up(D, TILE_N),
                          round_up(T, TILE_N) + 16,
                          block,
                          round_up(block, TILE_M),
                          1 / sqrtf((float)D)};
}

// One block of query rows, from packed keys and values.
static void attend(const struct sizes *s, float *out, float *lse, const float *q, const float *keys,
                   const float *values, float *work, size_t n)
{
    const size_t rows = round_up(n, TILE_M);
    float *queries = work, *p = queries + round_up(s->rows * s->D_columns, 16);
    float *sums = p + s->rows * s->T_row; // of values; the queries are used up by then
    copy_rows(queries, q, s->qkv_row, s->scale, n, s->D, rows, s->D);
    multiply(p, s->T_row, false, rows, s->T_columns, s->D, queries, s->D, 1, keys);
    float norm[BLOCK_T];
    for (size_t i = 0; i < n; i++) {
        float max, sum = softmax_row(p + i * s->T_row, s->T, &max);
        norm[i] = 1 / sum;
        if (lse)
            lse[i] = max + logf(sum);
    }
    multiply(sums, s->D_columns, false, rows, s->D_columns, s->T, p, s->T_row, 1, values);
    for (size_t i = 0; i < n; i++)
#pragma omp simd
        for (size_t d = 0; d < s->D; d++)
            out[i * s->out_row + d] = norm[i] * sums[i * s->D_columns + d];
}

void CPU_FN(attention)(struct device *device, act *out, float *lse, const act *qkv, size_t B,
                       size_t T, size_t H, size_t D)
{
    const struct sizes s = find_sizes(T, H, D);
    const size_t keys = s.T_columns * D, values = T * s.D_columns;
    const size_t queries = round_up(s.rows * s.D_columns, 16);
    const size_t each = round_up(keys, 16) + round_up(values, 16) + s.rows * s.T_row + 2 * queries;
    float *scratch = CPU_FN(scratch)(device, (size_t)device->threads * round_up(each, 16));
    if (!scratch)
        return;
    // Where heads are few, a head's query rows are shared out too.
    const size_t blocks = (T + s.block - 1) / s.block;
    const size_t parts = B * H >= 4 * (size_t)device->threads ? 1 : blocks;

#pragma omp parallel for schedule(dynamic) num_threads(threads_for(device, B *H *T *T *D / 16))
    for (size_t job = 0; job < B * H * parts; job++) {
        const size_t b = job / parts / H, h = job / parts % H;
        float *k = scratch + (size_t)omp_get_thread_num() * round_up(each, 16);
        float *v = k + round_up(keys, 16), *work = v + round_up(values, 16);
        const float *head = const_floats(qkv) + b * T * s.qkv_row + h * D;
        pack_transposed(k, head + s.out_row, s.qkv_row, T, D);
        pack_rows(v, head + 2 * s.out_row, s.qkv_row, T, D);
        for (size_t part = job % parts; part < blocks; part += parts) {
            size_t i = part * s.block;
            attend(&s, floats(out) + (b * T + i) * s.out_row + h * D,
                   lse ? lse + (b * H + h) * T + i : NULL, head + i * s.qkv_row, k, v, work,
                   min(s.block, T - i));
        }
    }
}

// The working memory of one head's backward pass.
struct backward {
    float *k_transposed, *v_transposed; // B (D,T)
    float *k;                           // B (T,D)
    float *dk, *dv;                     // (T padded, D padded)
    float *q, *dout;                    // rows of a block, (rows, D padded)
    float *q_packed, *dout_packed;      // B (rows, D)
    float *p, *ds;                      // (rows, T padded)
    float *dq;                          // (rows, D padded)
};

// Floats of the three kinds of pieces. The products write whole tiles, rows past T included.
static size_t keys_size(const struct sizes *s)
{
    return round_up(s->T_columns, TILE_M) * s->D_columns;
}
static size_t queries_size(const struct sizes *s)
{
    return s->rows * s->D_columns;
}
static size_t weights_size(const struct sizes *s)
{
    return s->rows * s->T_row;
}
static size_t backward_size(const struct sizes *s)
{
    return round_up(5 * keys_size(s) + 5 * queries_size(s) + 2 * weights_size(s), 16);
}

static struct backward place_backward(const struct sizes *s, float *at)
{
    const size_t keys = keys_size(s), queries = queries_size(s);
    float *q = at + 5 * keys, *p = q + 5 * queries;
    return (struct backward){.k_transposed = at,
                             .v_transposed = at + keys,
                             .k = at + 2 * keys,
                             .dk = at + 3 * keys,
                             .dv = at + 4 * keys,
                             .q = q,
                             .dout = q + queries,
                             .q_packed = q + 2 * queries,
                             .dout_packed = q + 3 * queries,
                             .dq = q + 4 * queries,
                             .p = p,
                             .ds = p + weights_size(s)};
}

// One block of query rows: dq, and its part of dk and dv.
static void attend_backward(const struct sizes *s, const struct backward *w, float *dq,
                            float *delta, const float *q, const float *dout, const float *out,
                            const float *lse, size_t n)
{
    const size_t rows = round_up(n, TILE_M), T = s->T_columns, D = s->D_columns;
    const size_t T_rows = round_up(s->T, TILE_M);
    copy_rows(w->q, q, s->qkv_row, s->scale, n, s->D, rows, D);
    copy_rows(w->dout, dout, s->out_row, 1, n, s->D, rows, D);
    pack_rows(w->q_packed, w->q, D, n, D);
    pack_rows(w->dout_packed, w->dout, D, n, D);
    multiply(w->p, s->T_row, false, rows, T, s->D, w->q, D, 1, w->k_transposed);
    multiply(w->ds, s->T_row, false, rows, T, s->D, w->dout, D, 1, w->v_transposed);
    for (size_t i = 0; i < n; i++) {
        float sum = 0, *p = w->p + i * s->T_row, *ds = w->ds + i * s->T_row;
#pragma omp simd reduction(+ : sum)
        for (size_t d = 0; d < s->D; d++)
            sum += out[i * s->out_row + d] * dout[i * s->out_row + d];
        delta[i] = sum;
#pragma omp simd
        for (size_t j = 0; j < s->T; j++) {
            p[j] = simd_exp(p[j] - lse[i]);
            ds[j] = p[j] * (ds[j] - sum);
        }
    }
    multiply(w->dq, D, false, rows, D, s->T, w->ds, s->T_row, 1, w->k);
    for (size_t i = 0; i < n; i++)
#pragma omp simd
        for (size_t d = 0; d < s->D; d++)
            dq[i * s->qkv_row + d] = s->scale * w->dq[i * D + d];
    // Rows past T of dk and dv are nobody's.
    multiply(w->dk, D, true, T_rows, D, n, w->ds, 1, s->T_row, w->q_packed);
    multiply(w->dv, D, true, T_rows, D, n, w->p, 1, s->T_row, w->dout_packed);
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
    for (size_t job = 0; job < B * H; job++) {
        const size_t b = job / H, h = job % H;
        const float *q = const_floats(qkv) + b * T * s.qkv_row + h * D;
        const float *k = q + s.out_row, *v = k + s.out_row;
        const struct backward w = place_backward(&s, scratch + (size_t)omp_get_thread_num() * each);
        pack_transposed(w.k_transposed, k, s.qkv_row, T, D);
        pack_transposed(w.v_transposed, v, s.qkv_row, T, D);
        pack_rows(w.k, k, s.qkv_row, T, D);
        memset(w.dk, 0, s.T_columns * s.D_columns * sizeof(float));
        memset(w.dv, 0, s.T_columns * s.D_columns * sizeof(float));
        float *dq = floats(dqkv) + (q - const_floats(qkv));
        for (size_t i = 0; i < T; i += s.block) {
            const size_t at = (b * T + i) * s.out_row + h * D, row = (b * H + h) * T + i;
            attend_backward(&s, &w, dq + i * s.qkv_row, delta + row, q + i * s.qkv_row,
                            const_floats(dout) + at, const_floats(out) + at, lse + row,
                            min(s.block, T - i));
        }
        for (size_t t = 0; t < T; t++) {
            float *to = dq + t * s.qkv_row + s.out_row;
            memcpy(to, w.dk + t * s.D_columns, D * sizeof *to);
            memcpy(to + s.out_row, w.dv + t * s.D_columns, D * sizeof *to);
        }
    }
}
