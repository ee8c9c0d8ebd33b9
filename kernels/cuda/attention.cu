// Self-attention without the T x T matrix (Dao, "FlashAttention-2", 2023).
// SPDX-License-Identifier: MIT
//
// It must read qkv and write out once, 8 B T H D bytes, and do 4 B H T^2 D operations and B H T^2
// exponentials. On an H100 with T = 256 the bytes weigh most, so blocks are small enough for two
// to run on a multiprocessor: one loads while the other computes.
//
// A block takes 16 query rows a warp of one head and goes through its keys and values in tiles of
// 64, the next tile on its way while this one is used. A warp's logits (16,64) become weights in
// the registers they were computed in, which are just where the product with the values wants
// them; running maximum, sum and result are rescaled as the maximum grows. Blocks of one head, then
// of one sample's heads are neighbours, so that the second-level cache serves what they share.
#include "kernels/cuda/attention.cuh"

#if CUDA_BITS == 16

constexpr int KEYS = 64; // of a tile

// The weights 2^(scale2 (s - the maximum so far)) in place of the logits s; rows g and g + 8.
template <int N, int D>
static __device__ __forceinline__ void soften(float (&s)[N][4], float (&o)[D / 8][4],
                                              float (&top)[2], float (&sum)[2], float scale2)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float highest = top[r];
#pragma unroll
        for (int n = 0; n < N; n++)
            highest = fmaxf(highest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
        const float shrink = exp2_approx((top[r] - highest) * scale2), base = highest * scale2;
        top[r] = highest;
        sum[r] *= shrink;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int j = 2 * r; j < 2 * r + 2; j++) {
                s[n][j] = exp2_approx(fmaf(s[n][j], scale2, -base));
                sum[r] += s[n][j];
            }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            o[n][2 * r] *= shrink;
            o[n][2 * r + 1] *= shrink;
        }
    }
}

template <int D, int WARPS>
static __global__ void __launch_bounds__(32 * WARPS, 16 / WARPS)
    attention_tensor(real *out, float *lse, const real *qkv, int T, int H, float scale2)
{
    constexpr int THREADS = 32 * WARPS, ROWS = 16 * WARPS, TILE = KEYS * ROW<D>;
    constexpr int STEPS = (D + 15) / 16;
    SHARED_DYNAMIC(real, shared);
    real *tiles = shared + ROWS * ROW<D>; // two pairs of keys and values
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first = blockIdx.x * ROWS;
    const int row = first + 16 * warp;
    real *mine = shared + 16 * warp * ROW<D>;
    const head_place at = place_head(T, H, D);
    const real *from = qkv + at.qkv; // what is loaded next

    load_rows<D, ROWS, THREADS>(shared, from + row_offset(first, at.qkv_row), at.qkv_row,
                                T - first);
    cp_async_commit();
    from += at.out_row;
    load_rows<D, KEYS, THREADS>(tiles, from, at.qkv_row, T);
    load_rows<D, KEYS, THREADS>(tiles + TILE, from + at.out_row, at.qkv_row, T);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    unsigned queries[STEPS][4];
#pragma unroll
    for (int i = 0; i < STEPS; i++)
        load_a<D>(queries[i], mine, 16 * i);

    float o[1][D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    for (int key = 0, stage = 0; key < T; key += KEYS, stage ^= 1) {
        if (const int next = key + KEYS; next < T) {
            real *to = tiles + (stage ^ 1) * 2 * TILE;
            from += KEYS * at.qkv_row;
            load_rows<D, KEYS, THREADS>(to, from, at.qkv_row, T - next);
            load_rows<D, KEYS, THREADS>(to + TILE, from + at.out_row, at.qkv_row, T - next);
        }
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();
        if (row < T) {
            const real *keys = tiles + stage * 2 * TILE, *values = keys + TILE;
            float s[KEYS / 8][4] = {};
#pragma unroll
            for (int i = 0; i < STEPS; i++)
#pragma unroll
                for (int n = 0; n < KEYS / 8; n += 2) {
                    unsigned b[4];
                    load_b<D>(b, keys + n * 8 * ROW<D>, 16 * i);
                    mma_bf16(s[n], queries[i], b[0], b[1]);
                    mma_bf16(s[n + 1], queries[i], b[2], b[3]);
                }
            if (key + KEYS > T)
#pragma unroll
                for (int i = 0; i < KEYS / 2; i++)
                    if (key + i / 4 * 8 + lane % 4 * 2 + i % 2 >= T)
                        s[i / 4][i % 4] = -INFINITY;
            soften<KEYS / 8, D>(s, o[0], top, sum, scale2);
#pragma unroll
            for (int n = 0; n < KEYS / 8; n += 2) {
                unsigned weights[1][4];
                pack_a(weights[0], s[n], s[n + 1]);
                add_product<D, 1>(o, weights, values + n * 8 * ROW<D>);
            }
        }
        __syncthreads();
    }
    if (row >= T)
        return;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        const int t = row + lane / 4 + 8 * r;
        if (lse && lane % 4 == 0 && t < T)
            lse[at.index * T + t] = (top[r] * scale2 + __log2f(sum[r])) / LOG2_E;
    }
    put_rows<D>(mine, o[0], __fdividef(1.0f, sum[0]), __fdividef(1.0f, sum[1]));
    store_rows<D, 16>(out + at.out + row_offset(row, at.out_row), at.out_row, mine, T - row);
}

template <int D, int WARPS>
static void run_tensor(struct device *device, real *out, float *lse, const real *qkv, size_t B,
                       size_t T, size_t H, size_t)
{
    constexpr int BYTES = (16 * WARPS + 4 * KEYS) * ROW<D> * sizeof(real);
    cuda_check(device,
               cudaFuncSetAttribute(attention_tensor<D, WARPS>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES),
               "attention's shared memory");
    RUN_KERNEL(device, (attention_tensor<D, WARPS>), dim3(blocks_for(T, 16 * WARPS), H, B),
               32 * WARPS, BYTES, out, lse, qkv, T, H, LOG2_E / sqrtf(D));
}

template <int D> static auto choose_tensor(size_t T)
{
    return T > 64 ? run_tensor<D, 8> : run_tensor<D, 4>;
}

#endif

// Any head size: 32 query rows and 32 N columns of the result a block.
template <int N>
static __global__ void __launch_bounds__(GENERAL_THREADS)
    attention_general(real *out, float *lse, const real *qkv, int T, int H, int D, float scale)
{
    SHARED(general_shared, shared, );
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int blocks = (T + GENERAL_ROWS - 1) / GENERAL_ROWS, number = blockIdx.x;
    const int first = number % blocks * GENERAL_ROWS, column = number / blocks * 32 * N;
    const head_place at = place_head(T, H, D);
    const real *q = qkv + at.qkv, *k = q + at.out_row, *v = k + at.out_row;
    float o[4][N] = {}, sum[4] = {}, top[4], s[4][2];
    for (int i = 0; i < 4; i++)
        top[i] = -INFINITY;
    for (int key = 0; key < T; key += GENERAL_COLUMNS) {
        general_dots(s, &shared, rows_from(q, at.qkv_row, first, T, D),
                     rows_from(k, at.qkv_row, key, T, D));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float highest = top[i];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                s[i][j] = key + lane + 32 * j < T ? s[i][j] * scale : -INFINITY;
                highest = fmaxf(highest, s[i][j]);
            }
            for (int flip = 16; flip; flip /= 2)
                highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, flip));
            const float shrink = expf(top[i] - highest);
            top[i] = highest;
            sum[i] *= shrink;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                s[i][j] = expf(s[i][j] - highest);
                sum[i] += s[i][j];
            }
#pragma unroll
            for (int n = 0; n < N; n++)
                o[i][n] *= shrink;
        }
        general_add(o, &shared, s, rows_from(v, at.qkv_row, key, T, D), column);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int t = first + 4 * warp + i;
        const float total = warp_sum(sum[i]);
        if (t >= T)
            continue;
        general_store(out + at.out + row_offset(t, at.out_row), o[i], 1 / total, column, D);
        if (lse && lane == 0 && column == 0)
            lse[at.index * T + t] = top[i] + logf(total);
    }
}

template <int N>
static void run_general(struct device *device, real *out, float *lse, const real *qkv, size_t B,
                        size_t T, size_t H, size_t D)
{
    const dim3 grid(blocks_for(T, GENERAL_ROWS) * blocks_for(D, 32 * N), H, B);
    RUN_KERNEL(device, attention_general<N>, grid, GENERAL_THREADS, 0, out, lse, qkv, T, H, D,
               1 / sqrtf(D));
}

void CUDA_FN(attention)(struct device *device, act *out, float *lse, const act *qkv, size_t B,
                        size_t T, size_t H, size_t D)
{
    if (B * T * H * D == 0)
        return;
    auto run = D <= 128 ? run_general<4> : run_general<16>;
#if CUDA_BITS == 16
    if (has_tensor_kernel(D, {qkv, out}))
        run = D == 64 ? choose_tensor<64>(T) : choose_tensor<72>(T);
#endif
    const size_t row = H * D;
    for (size_t b = 0; b < B; b += MOST_SAMPLES)
        run(device, reals(out) + b * T * row, lse ? lse + b * H * T : NULL,
            reals(qkv) + b * T * 3 * row, B - b < MOST_SAMPLES ? B - b : MOST_SAMPLES, T, H, D);
}
