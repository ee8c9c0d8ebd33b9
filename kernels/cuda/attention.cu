// Self-attention without the T x T matrix (Dao, "FlashAttention-2", 2023).
// SPDX-License-Identifier: MIT
//
// It must read qkv and write out once, 8 B T H D bytes, and do 4 B H T^2 D operations and B H T^2
// exponentials. On an H100 with T = 256 memory is the limit, so blocks are small enough for two to
// run on a multiprocessor: one loads while the other computes.
//
// A warp takes 32 query rows of one head and goes through the head's keys and values in tiles of
// BLOCK_K, loading the next tile while it uses this one. Each fragment of keys or values that comes
// from shared memory serves two products, of rows 0-15 and 16-31; with one product each, shared
// memory (128 bytes a cycle) would be slower than the tensor cores. A warp's logits become softmax
// weights in the registers that they were computed in, which is the layout that the product with
// the values needs. The running sum and result are rescaled when the running maximum grows. Blocks
// of the same head, then of the same sample, are neighbours, so that they share the L2 cache.
//
// What the lane with g = lane / 4 and t = lane % 4 holds of a warp's 32 rows:
//
//                logits s (32, BLOCK_K)            result o (32, D)
//                8 keys   8 keys   ...             8 columns  8 columns  ...
//   rows  0-15   in each square rows g and g + 8, columns 2t and 2t + 1
//   rows 16-31   the same
//
// So the four lanes of equal g share a row: its maximum and sum take two shuffles.
#include "kernels/cuda/attention.cuh"

#if CUDA_BITS == 16

// MIN_BLOCKS blocks are 8 warps, for which a multiprocessor has 255 registers a thread.
template <int D_, int WARPS_> struct forward_traits {
    static constexpr int D = D_, WARPS = WARPS_, THREADS = 32 * WARPS;
    static constexpr int BLOCK_Q = 32 * WARPS, BLOCK_K = 64; // query rows; keys of a tile
    static constexpr int STAGES = 2;                         // tiles in shared memory
    static constexpr int MIN_BLOCKS = 8 / WARPS;
    static constexpr int TILE = BLOCK_K * ROW<D>; // elements of a tile's keys, or values
    static constexpr int BYTES = (BLOCK_Q * ROW<D> + STAGES * 2 * TILE) * sizeof(real);
    static_assert(D % 8 == 0 && BLOCK_K % 16 == 0, "whole products");
    static_assert(BYTES <= SMALLEST_SHARED_MAX, "any GPU has the shared memory");
};

// Replaces the logits s of rows g and g + 8 by the weights 2^(scale2 (s - row_max)), after row_max
// has grown to the maximum so far, and rescales row_sum and the result o. scale2 is the softmax's
// scale for powers of 2.
template <int N, int D>
static __device__ __forceinline__ void online_softmax(float (&s)[N][4], float (&o)[D / 8][4],
                                                      float (&row_max)[2], float (&row_sum)[2],
                                                      float scale2)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float highest = row_max[r];
#pragma unroll
        for (int n = 0; n < N; n++)
            highest = fmaxf(highest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
        const float rescale = exp2_approx((row_max[r] - highest) * scale2), base = highest * scale2;
        row_max[r] = highest;
        row_sum[r] *= rescale;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int j = 2 * r; j < 2 * r + 2; j++) {
                s[n][j] = exp2_approx(fmaf(s[n][j], scale2, -base));
                row_sum[r] += s[n][j];
            }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            o[n][2 * r] *= rescale;
            o[n][2 * r + 1] *= rescale;
        }
    }
}

template <class traits>
static __global__ void __launch_bounds__(traits::THREADS, traits::MIN_BLOCKS)
    attention_tensor(real *out, float *lse, const real *qkv, int T, int H, float scale2)
{
    constexpr int D = traits::D, THREADS = traits::THREADS, TILE = traits::TILE;
    constexpr int BLOCK_Q = traits::BLOCK_Q, BLOCK_K = traits::BLOCK_K;
    constexpr int STEPS = (D + 15) / 16;
    SHARED_DYNAMIC(real, shared);
    real *tiles = shared + BLOCK_Q * ROW<D>; // STAGES pairs of keys and values
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first = blockIdx.x * BLOCK_Q;
    const int row = first + 32 * warp;
    real *mine = shared + 32 * warp * ROW<D>;
    const head_offsets at = find_head(T, H, D);
    const real *from = qkv + at.qkv; // the next rows to load

    load_rows<D, BLOCK_Q, THREADS>(shared, from + row_offset(first, at.qkv_row), at.qkv_row,
                                   T - first);
    cp_async_commit();
    from += at.out_row;
    load_rows<D, BLOCK_K, THREADS>(tiles, from, at.qkv_row, T);
    load_rows<D, BLOCK_K, THREADS>(tiles + TILE, from + at.out_row, at.qkv_row, T);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    unsigned queries[STEPS][2][4];
#pragma unroll
    for (int i = 0; i < STEPS; i++)
#pragma unroll
        for (int m = 0; m < 2; m++)
            load_a_fragment<D>(queries[i][m], mine + 16 * m * ROW<D>, 16 * i);

    float o[2][D / 8][4] = {}, row_max[2][2], row_sum[2][2] = {};
#pragma unroll
    for (int i = 0; i < 4; i++)
        row_max[i / 2][i % 2] = -INFINITY;
    for (int key = 0, stage = 0; key < T; key += BLOCK_K, stage ^= 1) {
        if (const int next = key + BLOCK_K; next < T) {
            real *to = tiles + (stage ^ 1) * 2 * TILE;
            from += BLOCK_K * at.qkv_row;
            load_rows<D, BLOCK_K, THREADS>(to, from, at.qkv_row, T - next);
            load_rows<D, BLOCK_K, THREADS>(to + TILE, from + at.out_row, at.qkv_row, T - next);
        }
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();
        if (row < T) {
            const real *keys = tiles + stage * 2 * TILE, *values = keys + TILE;
            float s[2][BLOCK_K / 8][4] = {};
#pragma unroll
            for (int i = 0; i < STEPS; i++)
#pragma unroll
                for (int n = 0; n < BLOCK_K / 8; n += 2) {
                    unsigned b[4];
                    load_b_fragment<D>(b, keys + n * 8 * ROW<D>, 16 * i);
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        mma_bf16(s[m][n], queries[i][m], b[0], b[1]);
                        mma_bf16(s[m][n + 1], queries[i][m], b[2], b[3]);
                    }
                }
            if (key + BLOCK_K > T)
#pragma unroll
                for (int i = 0; i < BLOCK_K / 2; i++)
                    if (key + i / 4 * 8 + lane % 4 * 2 + i % 2 >= T)
                        s[0][i / 4][i % 4] = s[1][i / 4][i % 4] = -INFINITY;
#pragma unroll
            for (int m = 0; m < 2; m++)
                online_softmax<BLOCK_K / 8, D>(s[m], o[m], row_max[m], row_sum[m], scale2);
#pragma unroll
            for (int n = 0; n < BLOCK_K / 8; n += 2) {
                unsigned p[2][4];
#pragma unroll
                for (int m = 0; m < 2; m++)
                    pack_a_fragment(p[m], s[m][n], s[m][n + 1]);
                multiply_add_rows<D, 2>(o, p, values + n * 8 * ROW<D>);
            }
        }
        __syncthreads();
    }
    if (row >= T)
        return;
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float &sum = row_sum[m][r];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const int t = row + 16 * m + lane / 4 + 8 * r;
            if (lse && lane % 4 == 0 && t < T)
                lse[at.index * T + t] = (row_max[m][r] * scale2 + __log2f(sum)) / LOG2_E;
        }
        store_fragments<D>(mine + 16 * m * ROW<D>, o[m], __fdividef(1.0f, row_sum[m][0]),
                           __fdividef(1.0f, row_sum[m][1]));
    }
    store_rows<D, 32>(out + at.out + row_offset(row, at.out_row), at.out_row, mine, T - row);
}

template <class traits>
static void run_tensor(struct device *device, real *out, float *lse, const real *qkv, size_t B,
                       size_t T, size_t H, size_t)
{
    constexpr int BYTES = traits::BYTES;
    cuda_check(device,
               cudaFuncSetAttribute(attention_tensor<traits>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES),
               "attention's shared memory");
    RUN_KERNEL(device, attention_tensor<traits>, dim3(blocks_for(T, traits::BLOCK_Q), H, B),
               traits::THREADS, BYTES, out, lse, qkv, T, H, LOG2_E / sqrtf(traits::D));
}

template <int D> static auto choose_tensor_kernel(size_t T)
{
    using small = forward_traits<D, 2>;
    return T <= small::BLOCK_Q ? run_tensor<small> : run_tensor<forward_traits<D, 4>>;
}

#endif

// For any head size: a block makes 32 rows and 32 N columns of the result.
template <int N>
static __global__ void __launch_bounds__(GENERAL_THREADS)
    attention_general(real *out, float *lse, const real *qkv, int T, int H, int D, float scale)
{
    SHARED(general_shared, shared, );
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int blocks = (T + GENERAL_ROWS - 1) / GENERAL_ROWS, number = blockIdx.x;
    const int first = number % blocks * GENERAL_ROWS, column = number / blocks * 32 * N;
    const head_offsets at = find_head(T, H, D);
    const real *q = qkv + at.qkv, *k = q + at.out_row, *v = k + at.out_row;
    float o[4][N] = {}, row_sum[4] = {}, row_max[4], s[4][2];
    for (int i = 0; i < 4; i++)
        row_max[i] = -INFINITY;
    for (int key = 0; key < T; key += GENERAL_COLUMNS) {
        general_dot_products(s, &shared, rows_from(q, at.qkv_row, first, T, D),
                             rows_from(k, at.qkv_row, key, T, D));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float highest = row_max[i];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                s[i][j] = key + lane + 32 * j < T ? s[i][j] * scale : -INFINITY;
                highest = fmaxf(highest, s[i][j]);
            }
            for (int flip = 16; flip; flip /= 2)
                highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, flip));
            const float rescale = expf(row_max[i] - highest);
            row_max[i] = highest;
            row_sum[i] *= rescale;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                s[i][j] = expf(s[i][j] - highest);
                row_sum[i] += s[i][j];
            }
#pragma unroll
            for (int n = 0; n < N; n++)
                o[i][n] *= rescale;
        }
        general_add_product(o, &shared, s, rows_from(v, at.qkv_row, key, T, D), column);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int t = first + 4 * warp + i;
        const float total = warp_sum(row_sum[i]);
        if (t >= T)
            continue;
        general_store(out + at.out + row_offset(t, at.out_row), o[i], 1 / total, column, D);
        if (lse && lane == 0 && column == 0)
            lse[at.index * T + t] = row_max[i] + logf(total);
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
    if (can_use_tensor_cores(D, {qkv, out}))
        run = D == 64 ? choose_tensor_kernel<64>(T) : choose_tensor_kernel<72>(T);
#endif
    const size_t row = H * D;
    for (size_t b = 0; b < B; b += GRID_Z_MAX)
        run(device, reals(out) + b * T * row, lse ? lse + b * H * T : NULL,
            reals(qkv) + b * T * 3 * row, B - b < GRID_Z_MAX ? B - b : GRID_Z_MAX, T, H, D);
}
