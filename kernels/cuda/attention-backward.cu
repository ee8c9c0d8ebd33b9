// Self-attention's gradient (Dao, "FlashAttention-2", 2023). SPDX-License-Identifier: MIT
//
//   p = exp(scale q k - lse); dp = dout v; ds = p (dp - delta), delta the sum of out dout;
//   dv = p^T dout; dk = scale ds^T q; dq = scale ds k.
//
// It must read qkv, out and dout and write dqkv once, 16 B T H D bytes, and do 10 B H T^2 D
// operations: five products. On tensor cores one block makes all gradients of one head, so that
// nothing is computed twice and blocks exchange nothing through device memory:
//
// Shared memory holds up to BLOCK_K keys at once. Each warp owns 32 of them and accumulates their
// dk and dv in registers. It goes through the queries, 32 at a time, and computes p and ds
// transposed (keys by queries); the layout in which these come out of two products is the one that
// the next two, for dv and dk, need. Only dq is a sum over keys of several warps: they exchange ds
// through shared memory, and after BLOCK_Q queries each warp computes dq of 16 of them from all
// keys there. With T <= BLOCK_K (256) that is the whole of dq; otherwise its partial sums, in
// float32, stay in scratch memory until the next keys. All sums have a fixed order.
//
//              BLOCK_Q = 16 WARPS queries                          D columns
//            +----------------------------+           +------------+------------+
//   warp 0   | p, ds of 32 keys, 32       | -> sums:  | dk         | dv         |  32 rows
//   warp 1   | queries at a time          |           |            |            |  32 rows
//    ...     |                            |           |            |            |
//            +----------------------------+           +------------+------------+
//               16   16  ...  columns of ds: warp w computes dq of queries 16 w to 16 w + 15
//
// In every square of 8 by 8 the lane with g = lane / 4 and t = lane % 4 has row g, columns 2t and
// 2t + 1.
#include "kernels/cuda/attention.cuh"

#if CUDA_BITS == 16

// If one block fills a multiprocessor, the next queries are loaded ahead, into a second stage.
// Smaller blocks need only one, as other blocks compute while they load.
template <int D_, int WARPS_> struct backward_traits {
    static constexpr int D = D_, WARPS = WARPS_, THREADS = 32 * WARPS;
    static constexpr int BLOCK_K = 32 * WARPS, BLOCK_Q = 16 * WARPS;
    static constexpr int STAGES = WARPS == 8 ? 2 : 1, MIN_BLOCKS = 8 / WARPS;
    struct shared {
        real keys[BLOCK_K * ROW<D>], values[BLOCK_K * ROW<D>];
        struct {
            real queries[BLOCK_Q * ROW<D>], dout[BLOCK_Q * ROW<D>];
        } stages[STAGES];
        real ds[BLOCK_Q / 16][BLOCK_K / 8][2][64]; // transposed, as 8x8 matrices for ldmatrix
        float lse2[BLOCK_Q], delta[BLOCK_Q];       // lse2: log2 of the sums of exponentials
    };
    static constexpr int BYTES = sizeof(shared);
    static_assert(THREADS == 2 * BLOCK_Q, "two threads compute the delta of a query");
    static_assert(BLOCK_Q % 32 == 0, "a warp takes 32 queries at a time");
    static_assert(WARPS == 8 || BYTES <= SMALLEST_SHARED_MAX, "any GPU runs the smaller blocks");
    static_assert(BYTES <= 227 << 10, "Hopper runs the largest");
};

// p = 2^(scale2 s - lse2) of the logits s (keys by queries), as A fragments of a product over the
// queries; 0 for keys from `valid` on.
static __device__ __forceinline__ void compute_p(unsigned (&p)[2][2][4], float (&s)[2][4][4],
                                                 const float *lse2, float scale2, int valid)
{
    const int lane = threadIdx.x % 32;
    if (valid < 32)
#pragma unroll
        for (int i = 0; i < 32; i++)
            if (i / 16 * 16 + i / 2 % 2 * 8 + lane / 4 >= valid)
                s[i / 16][i / 4 % 4][i % 4] = -INFINITY;
#pragma unroll
    for (int n = 0; n < 4; n++) {
        const float2 base = *reinterpret_cast<const float2 *>(lse2 + n * 8 + lane % 4 * 2);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                s[m][n][j] = exp2_approx(fmaf(s[m][n][j], scale2, j % 2 ? -base.y : -base.x));
    }
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int k = 0; k < 2; k++)
            pack_a_fragment(p[k][m], s[m][2 * k], s[m][2 * k + 1]);
}

// Replaces p by ds = p (dp - delta).
static __device__ __forceinline__ void compute_ds(unsigned (&p)[2][2][4],
                                                  const float (&dp)[2][4][4], const float *delta)
{
#pragma unroll
    for (int n = 0; n < 4; n++) {
        const float2 mean = *reinterpret_cast<const float2 *>(delta + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                unsigned &pair = p[n / 2][m][n % 2 * 2 + half];
                const float *grad = dp[m][n] + 2 * half;
                pair = pack_bf16(__uint_as_float(pair << 16) * (grad[0] - mean.x),
                                 __uint_as_float(pair & 0xffff0000) * (grad[1] - mean.y));
            }
    }
}

static __device__ __forceinline__ uint4 read_vector(const real *row, int i)
{
    return *reinterpret_cast<const uint4 *>(row + i * 8);
}

// The dot product of 8 elements.
static __device__ __forceinline__ float dot(const uint4 &x, const uint4 &y)
{
    const unsigned a[4] = {x.x, x.y, x.z, x.w}, b[4] = {y.x, y.y, y.z, y.w};
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum += __uint_as_float(a[i] << 16) * __uint_as_float(b[i] << 16) +
               __uint_as_float(a[i] & 0xffff0000) * __uint_as_float(b[i] & 0xffff0000);
    return sum;
}

// Adds the partial sums of earlier keys to those of 16 rows of dq, and stores them for later keys.
template <int D>
static __device__ __forceinline__ void accumulate_dq(float (&sums)[D / 8][4], float *partial,
                                                     int valid, bool earlier, bool later)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < D / 4; i++) {
        const int row = lane / 4 + i % 2 * 8, n = i / 2;
        if (row >= valid)
            continue;
        float2 *at = reinterpret_cast<float2 *>(partial + row * D + n * 8 + lane % 4 * 2);
        float *pair = sums[n] + i % 2 * 2;
        if (earlier) {
            pair[0] += at->x;
            pair[1] += at->y;
        }
        if (later)
            *at = make_float2(pair[0], pair[1]);
    }
}

// Starts copying the queries from `query` on, and their dout, to shared memory.
template <class traits>
static __device__ __forceinline__ void load_queries(typename traits::shared *shared, int stage,
                                                    const real *q, const real *dout,
                                                    const head_offsets &at, int query, int T)
{
    constexpr int D = traits::D, BLOCK_Q = traits::BLOCK_Q, THREADS = traits::THREADS;
    load_rows<D, BLOCK_Q, THREADS>(shared->stages[stage].queries, q + row_offset(query, at.qkv_row),
                                   at.qkv_row, T - query);
    load_rows<D, BLOCK_Q, THREADS>(shared->stages[stage].dout, dout + row_offset(query, at.out_row),
                                   at.out_row, T - query);
}

template <class traits>
static __global__ void __launch_bounds__(traits::THREADS, traits::MIN_BLOCKS)
    attention_backward_tensor(real *dqkv, float *dq_sums, const real *dout, const real *qkv,
                              const real *out, const float *lse, int T, int H, float scale,
                              float scale2)
{
    using shared_type = typename traits::shared;
    constexpr int D = traits::D, THREADS = traits::THREADS, STAGES = traits::STAGES;
    constexpr int BLOCK_K = traits::BLOCK_K, BLOCK_Q = traits::BLOCK_Q, VECTORS = D / 8;
    SHARED_DYNAMIC(shared_type, shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const head_offsets at = find_head(T, H, D);
    const real *q = qkv + at.qkv, *k = q + at.out_row, *v = k + at.out_row;
    real *dq = dqkv + at.qkv;
    dout += at.out;
    out += at.out;
    lse += at.index * T;

    for (int key = 0; key < T; key += BLOCK_K) {
        const int first_key = key + 32 * warp; // the first key of this warp
        real *my_keys = shared->keys + 32 * warp * ROW<D>;
        real *my_values = shared->values + 32 * warp * ROW<D>;
        float dk[2][D / 8][4] = {}, dv[2][D / 8][4] = {};
        load_rows<D, BLOCK_K, THREADS>(shared->keys, k + row_offset(key, at.qkv_row), at.qkv_row,
                                       T - key);
        load_rows<D, BLOCK_K, THREADS>(shared->values, v + row_offset(key, at.qkv_row), at.qkv_row,
                                       T - key);
        load_queries<traits>(shared, 0, q, dout, at, 0, T);
        cp_async_commit();
        for (int query = 0, stage = 0; query < T; query += BLOCK_Q) {
            // Two threads compute the delta of a query, from alternate vectors of 8 elements.
            const int row = threadIdx.x / 2, half = threadIdx.x % 2;
            uint4 result[(VECTORS + 1) / 2];
#pragma unroll
            for (int i = 0; i < (VECTORS + 1) / 2; i++)
                result[i] =
                    query + row < T && 2 * i + half < VECTORS
                        ? read_vector(out + row_offset(query + row, at.out_row), 2 * i + half)
                        : make_uint4(0, 0, 0, 0);
            if (STAGES == 2 && query + BLOCK_Q < T)
                load_queries<traits>(shared, stage ^ 1, q, dout, at, query + BLOCK_Q, T);
            cp_async_commit();
            cp_async_wait<STAGES - 1>();
            __syncthreads();
            real *queries = shared->stages[stage].queries;
            const real *douts = shared->stages[stage].dout;
            float delta = 0;
#pragma unroll
            for (int i = 0; i < (VECTORS + 1) / 2; i++)
                if (2 * i + half < VECTORS)
                    delta += dot(result[i], read_vector(douts + row * ROW<D>, 2 * i + half));
            delta += __shfl_xor_sync(~0u, delta, 1);
            if (half == 0) {
                shared->lse2[row] = query + row < T ? lse[query + row] * LOG2_E : INFINITY;
                shared->delta[row] = delta;
            }
            __syncthreads();

            const int query_tiles = first_key < T ? (min(BLOCK_Q, T - query) + 31) / 32 : 0;
#pragma unroll 1
            for (int tile = 0; tile < query_tiles; tile++) {
                const real *q_rows = queries + 32 * tile * ROW<D>;
                const real *dout_rows = douts + 32 * tile * ROW<D>;
                unsigned p[2][2][4]; // (query / 16, key / 16)
                float s[2][4][4];
                multiply_rows<D, 2, 4>(s, my_keys, q_rows);
                compute_p(p, s, shared->lse2 + 32 * tile, scale2, T - first_key);
                multiply_add_rows<D, 2>(dv, p[0], dout_rows);
                multiply_add_rows<D, 2>(dv, p[1], dout_rows + 16 * ROW<D>);
                multiply_rows<D, 2, 4>(s, my_values, dout_rows);
                compute_ds(p, s, shared->delta + 32 * tile);
#pragma unroll
                for (int i = 0; i < 16; i++) {
                    real *to =
                        shared->ds[2 * tile + i / 8][4 * warp + i / 4 % 2 * 2 + i % 2][i / 2 % 2];
                    reinterpret_cast<unsigned *>(to)[lane] = p[i / 8][i / 4 % 2][i % 4];
                }
                multiply_add_rows<D, 2>(dk, p[0], q_rows);
                multiply_add_rows<D, 2>(dk, p[1], q_rows + 16 * ROW<D>);
            }
            __syncthreads();

            // No warp needs these queries any more: dq overwrites the warp's rows of them.
            if (const int mine = query + 16 * warp; mine < T) {
                float sums[1][D / 8][4] = {};
#pragma unroll 1
                for (int from = 0; from < min(BLOCK_K, T - key); from += 32) // a warp's keys
#pragma unroll
                    for (int i = from; i < from + 32; i += 16) {
                        unsigned ds[1][4];
                        ldmatrix_trans(ds[0], shared->ds[warp][i / 8 + lane / 16][lane / 8 % 2] +
                                                  lane % 8 * 8);
                        multiply_add_rows<D, 1>(sums, ds, shared->keys + i * ROW<D>);
                    }
                if (T > BLOCK_K)
                    accumulate_dq<D>(sums[0], dq_sums + (at.index * T + mine) * D, T - mine,
                                     key > 0, key + BLOCK_K < T);
                if (key + BLOCK_K >= T) {
                    real *rows = queries + 16 * warp * ROW<D>;
                    store_fragments<D>(rows, sums[0], scale, scale);
                    store_rows<D, 16>(dq + row_offset(mine, at.qkv_row), at.qkv_row, rows,
                                      T - mine);
                }
            }
            __syncthreads();
            if (STAGES == 2)
                stage ^= 1;
            else if (query + BLOCK_Q < T)
                load_queries<traits>(shared, 0, q, dout, at, query + BLOCK_Q, T);
        }
        // No warp needs this warp's keys and values any more: dk and dv overwrite them.
        if (first_key < T) {
            for (int m = 0; m < 2; m++) {
                store_fragments<D>(my_keys + 16 * m * ROW<D>, dk[m], scale, scale);
                store_fragments<D>(my_values + 16 * m * ROW<D>, dv[m], 1, 1);
            }
            real *to = dq + at.out_row + row_offset(first_key, at.qkv_row);
            store_rows<D, 32>(to, at.qkv_row, my_keys, T - first_key);
            store_rows<D, 32>(to + at.out_row, at.qkv_row, my_values, T - first_key);
        }
        __syncthreads();
    }
}

template <class traits>
static void run_tensor(struct device *device, real *dqkv, float *dq_sums, const real *dout,
                       const real *qkv, const real *out, const float *lse, size_t B, size_t T,
                       size_t H, size_t)
{
    constexpr int BYTES = traits::BYTES;
    const float scale = 1 / sqrtf(traits::D);
    cuda_check(device,
               cudaFuncSetAttribute(attention_backward_tensor<traits>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES),
               "attention's shared memory");
    RUN_KERNEL(device, attention_backward_tensor<traits>, dim3(1, H, B), traits::THREADS, BYTES,
               dqkv, dq_sums, dout, qkv, out, lse, T, H, scale, LOG2_E * scale);
}

// Chooses as many warps as there are keys for, if their shared memory fits the GPU.
template <int D> static auto choose_tensor_kernel(struct device *device, size_t T)
{
    using small = backward_traits<D, 2>;
    using medium = backward_traits<D, 4>;
    using large = backward_traits<D, 8>;
    if (T > medium::BLOCK_K && large::BYTES <= cuda_state(device)->block_shared_max)
        return run_tensor<large>;
    return T > small::BLOCK_K ? run_tensor<medium> : run_tensor<small>;
}

#endif

// delta (B,H,T) = sum of out dout over D. Each warp computes one element.
static __global__ void __launch_bounds__(GENERAL_THREADS)
    attention_delta(float *delta, const real *out, const real *dout, int T, int H, int D)
{
    const int t = blockIdx.x * (GENERAL_THREADS / 32) + threadIdx.x / 32;
    if (t >= T)
        return;
    const head_offsets at = find_head(T, H, D);
    const size_t row = at.out + row_offset(t, at.out_row);
    float sum = 0;
    for (int d = threadIdx.x % 32; d < D; d += 32)
        sum += to_float(out[row + d]) * to_float(dout[row + d]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        delta[at.index * T + t] = sum;
}

// For any head size: a block makes 32 rows and 32 N columns of dq.
template <int N>
static __global__ void __launch_bounds__(GENERAL_THREADS)
    attention_dq(real *dqkv, const real *dout, const real *qkv, const float *lse,
                 const float *delta, int T, int H, int D, float scale)
{
    SHARED(general_shared, shared, );
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int blocks = (T + GENERAL_ROWS - 1) / GENERAL_ROWS, number = blockIdx.x;
    const int first = number % blocks * GENERAL_ROWS, column = number / blocks * 32 * N;
    const int mine = first + 4 * warp;
    const head_offsets at = find_head(T, H, D);
    const real *q = qkv + at.qkv, *k = q + at.out_row, *v = k + at.out_row;
    const general_rows queries = rows_from(q, at.qkv_row, first, T, D);
    const general_rows gradients = rows_from(dout + at.out, at.out_row, first, T, D);
    float dq[4][N] = {}, s[4][2], dp[4][2], row_lse[4], row_delta[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        row_lse[i] = mine + i < T ? lse[at.index * T + mine + i] : INFINITY;
        row_delta[i] = mine + i < T ? delta[at.index * T + mine + i] : 0;
    }
    for (int key = 0; key < T; key += GENERAL_COLUMNS) {
        const general_rows keys = rows_from(k, at.qkv_row, key, T, D);
        general_dot_products(s, &shared, queries, keys);
        general_dot_products(dp, &shared, gradients, rows_from(v, at.qkv_row, key, T, D));
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int row = i / 2, j = i % 2;
            const bool there = key + lane + 32 * j < T;
            s[row][j] =
                there ? expf(s[row][j] * scale - row_lse[row]) * (dp[row][j] - row_delta[row]) : 0;
        }
        general_add_product(dq, &shared, s, keys, column);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (mine + i < T)
            general_store(dqkv + at.qkv + row_offset(mine + i, at.qkv_row), dq[i], scale, column,
                          D);
}

// For any head size: a block makes 32 rows and 32 N columns of dk and dv.
template <int N>
static __global__ void __launch_bounds__(GENERAL_THREADS)
    attention_dk_dv(real *dqkv, const real *dout, const real *qkv, const float *lse,
                    const float *delta, int T, int H, int D, float scale)
{
    SHARED(general_shared, shared, );
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int blocks = (T + GENERAL_ROWS - 1) / GENERAL_ROWS, number = blockIdx.x;
    const int first = number % blocks * GENERAL_ROWS, column = number / blocks * 32 * N;
    const int mine = first + 4 * warp;
    const head_offsets at = find_head(T, H, D);
    const real *q = qkv + at.qkv, *k = q + at.out_row, *v = k + at.out_row;
    const general_rows keys = rows_from(k, at.qkv_row, first, T, D);
    const general_rows values = rows_from(v, at.qkv_row, first, T, D);
    float dk[4][N] = {}, dv[4][N] = {}, p[4][2], dp[4][2];
    for (int query = 0; query < T; query += GENERAL_COLUMNS) {
        const general_rows queries = rows_from(q, at.qkv_row, query, T, D);
        const general_rows gradients = rows_from(dout + at.out, at.out_row, query, T, D);
        general_dot_products(p, &shared, keys, queries);
        general_dot_products(dp, &shared, values, gradients);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int t = query + lane + 32 * j;
            const float query_lse = t < T ? lse[at.index * T + t] : INFINITY;
            const float query_delta = t < T ? delta[at.index * T + t] : 0;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i][j] = mine + i < T ? expf(p[i][j] * scale - query_lse) : 0;
                dp[i][j] = p[i][j] * (dp[i][j] - query_delta);
            }
        }
        general_add_product(dv, &shared, p, gradients, column);
        general_add_product(dk, &shared, dp, queries, column);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (mine + i < T) {
            real *to = dqkv + at.qkv + at.out_row + row_offset(mine + i, at.qkv_row);
            general_store(to, dk[i], scale, column, D);
            general_store(to + at.out_row, dv[i], 1, column, D);
        }
}

template <int N>
static void run_general(struct device *device, real *dqkv, float *delta, const real *dout,
                        const real *qkv, const real *out, const float *lse, size_t B, size_t T,
                        size_t H, size_t D)
{
    const dim3 grid(blocks_for(T, GENERAL_ROWS) * blocks_for(D, 32 * N), H, B);
    const float scale = 1 / sqrtf(D);
    RUN_KERNEL(device, attention_delta, dim3(blocks_for(T, GENERAL_THREADS / 32), H, B),
               GENERAL_THREADS, 0, delta, out, dout, T, H, D);
    RUN_KERNEL(device, attention_dq<N>, grid, GENERAL_THREADS, 0, dqkv, dout, qkv, lse, delta, T, H,
               D, scale);
    RUN_KERNEL(device, attention_dk_dv<N>, grid, GENERAL_THREADS, 0, dqkv, dout, qkv, lse, delta, T,
               H, D, scale);
}

void CUDA_FN(attention_backward)(struct device *device, act *dqkv, float *scratch, const act *dout,
                                 const act *qkv, const act *out, const float *lse, size_t B,
                                 size_t T, size_t H, size_t D)
{
    if (B * T * H * D == 0)
        return;
    auto run = D <= 128 ? run_general<4> : run_general<16>;
#if CUDA_BITS == 16
    if (can_use_tensor_cores(D, {dqkv, dout, qkv, out}))
        run = D == 64 ? choose_tensor_kernel<64>(device, T) : choose_tensor_kernel<72>(device, T);
#endif
    const size_t row = H * D;
    for (size_t b = 0; b < B; b += GRID_Z_MAX)
        run(device, reals(dqkv) + b * T * 3 * row, scratch + b * T * row, reals(dout) + b * T * row,
            reals(qkv) + b * T * 3 * row, reals(out) + b * T * row, lse + b * H * T,
            B - b < GRID_Z_MAX ? B - b : GRID_Z_MAX, T, H, D);
}
