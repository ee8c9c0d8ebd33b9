// Self-attention, a block of query rows at a time: their logits against all keys fit the second-
// level cache, and no T x T matrix is kept; backward makes the weights again from lse (Dao et al.,
// "FlashAttention", 2022). SPDX-License-Identifier: MIT
#include <omp.h>

#include "kernels/cpu/product.h"

#define BLOCK_T 48  // query rows at once: a multiple of TILE_M
#define BLOCK_K 256 // so deep a strip of B stays in the first-level cache

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
    for (size_t k = 0; k < K; k += BLOCK_K)
        for (size_t j = 0; j < N; j += TILE_N)
            for (size_t i = 0; i < M; i += TILE_M)
                tile_product(c + i * c_row + j, c_row, add || k > 0, min(BLOCK_K, K - k),
                             a + i * a_row + k * a_column, a_row, a_column, b + j * K + k * TILE_N);
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

// What all heads of a call share.
struct attention {
    struct sizes s;
    float *out, *lse;
    const float *qkv;
    size_t keys, values, work; // sizes of the packed ones and of the memory for a block
};

// Packs one strip of a head, TILE_N keys or TILE_N columns of the values.
static void pack_strip(const struct attention *p, float *packed, size_t head, size_t strip)
{
    const struct sizes *s = &p->s;
    const float *k = p->qkv + head / s->H * s->T * s->qkv_row + head % s->H * s->D + s->out_row;
    const size_t at = strip * TILE_N;
    if (at < s->T_columns)
        pack_transposed(packed + at * s->D, k + at * s->qkv_row, s->qkv_row, min(TILE_N, s->T - at),
                        s->D);
    else
        pack_rows(packed + p->keys + (at - s->T_columns) * s->T,
                  k + s->out_row + (at - s->T_columns), s->qkv_row, s->T,
                  min(TILE_N, s->D - (at - s->T_columns)));
}

// One block of a head's query rows.
static void attend(const struct attention *p, const float *packed, float *work, size_t head,
                   size_t block)
{
    const struct sizes *s = &p->s;
    const size_t first = block * s->block, n = min(s->block, s->T - first);
    const size_t at = head / s->H * s->T + first, rows = round_up(n, TILE_M);
    float *out = p->out + at * s->out_row + head % s->H * s->D;
    float *lse = p->lse ? p->lse + head * s->T + first : NULL;
    float *queries = work, *weights = queries + round_up(s->rows * s->D_columns, 16);
    float *sums = weights + s->rows * s->T_row; // of values
    copy_rows(queries, p->qkv + at * s->qkv_row + head % s->H * s->D, s->qkv_row, s->scale, n, s->D,
              rows, s->D);
    multiply(weights, s->T_row, false, rows, s->T_columns, s->D, queries, s->D, 1, packed);
    float norm[BLOCK_T];
    for (size_t i = 0; i < n; i++) {
        float max, sum = softmax_row(weights + i * s->T_row, s->T, &max);
        norm[i] = 1 / sum;
        if (lse)
            lse[i] = max + logf(sum);
    }
    multiply(sums, s->D_columns, false, rows, s->D_columns, s->T, weights, s->T_row, 1,
             packed + p->keys);
    for (size_t i = 0; i < n; i++)
#pragma omp simd
        for (size_t d = 0; d < s->D; d++)
            out[i * s->out_row + d] = norm[i] * sums[i * s->D_columns + d];
}

void CPU_FN(attention)(struct device *device, act *out, float *lse, const act *qkv, size_t B,
                       size_t T, size_t H, size_t D)
{
    struct attention p = {find_sizes(T, H, D), floats(out), lse, const_floats(qkv), 0, 0, 0};
    const struct sizes *s = &p.s;
    p.keys = round_up(s->T_columns * D, 16);
    p.values = round_up(T * s->D_columns, 16);
    p.work = round_up(s->rows * s->T_row + 2 * round_up(s->rows * s->D_columns, 16), 16);
    const size_t heads = B * H, threads = (size_t)device->threads;
    const size_t blocks = (T + s->block - 1) / s->block;
    const size_t strips = (s->T_columns + s->D_columns) / TILE_N, packed = p.keys + p.values;
    // A thread takes whole heads; where these are few, all are packed first and blocks shared out.
    const bool few = heads < 4 * threads;
    float *scratch = CPU_FN(scratch)(device, (few ? heads : threads) * packed + threads * p.work);
    if (!scratch)
        return;

#pragma omp parallel num_threads(threads_for(device, heads *T *T *D / 16))
    {
        const size_t thread = (size_t)omp_get_thread_num();
        float *work = scratch + (few ? heads : threads) * packed + thread * p.work;
        if (few) {
#pragma omp for
            for (size_t n = 0; n < heads * strips; n++)
                pack_strip(&p, scratch + n / strips * packed, n / strips, n % strips);
#pragma omp for schedule(dynamic)
            for (size_t n = 0; n < heads * blocks; n++)
                attend(&p, scratch + n / blocks * packed, work, n / blocks, n % blocks);
        } else {
#pragma omp for schedule(dynamic)
            for (size_t head = 0; head < heads; head++) {
                float *own = scratch + thread * packed;
                for (size_t strip = 0; strip < strips; strip++)
                    pack_strip(&p, own, head, strip);
                for (size_t block = 0; block < blocks; block++)
                    attend(&p, own, work, head, block);
            }
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
