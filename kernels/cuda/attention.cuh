// What attention.cu and attention-backward.cu share: where a head's vectors lie, products on tensor
// cores (bfloat16), and products by plain multiplications (any head size, any precision).
// SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_ATTENTION_H
#define DIT_CUDA_ATTENTION_H

#include <math.h>

#include <initializer_list>

#include "kernels/cuda/backend.h"

// The query of token t is at qkv + t * qkv_row, its key out_row and its value 2 out_row behind;
// its output at out + t * out_row.
struct head_place {
    size_t qkv, out;
    int qkv_row, out_row;
    size_t index; // within (B,H)
};

// All grids are (blocks of a head, H, B): blocks that run together share a sample's rows.
static __device__ __forceinline__ head_place place_head(int T, int H, int D)
{
    const size_t token = static_cast<size_t>(blockIdx.z) * T;
    const int row = H * D, first = blockIdx.y * D;
    return {token * 3 * row + first, token * row + first, 3 * row, row,
            static_cast<size_t>(blockIdx.z) * H + blockIdx.y};
}

static __device__ __forceinline__ size_t row_offset(int t, int row)
{
    return static_cast<size_t>(t) * row;
}

constexpr size_t MOST_SAMPLES = 65535; // of a grid

constexpr float LOG2_E = 1.44269504f;

#if CUDA_BITS == 16

// Whether the tensor cores' kernels take heads of D and vectors at these addresses.
static inline bool has_tensor_kernel(size_t D, std::initializer_list<const void *> addresses)
{
    uintptr_t bits = 0;
    for (const void *address : addresses)
        bits |= reinterpret_cast<uintptr_t>(address);
    return (D == 64 || D == 72) && bits % 16 == 0;
}

// Vectors lie this many elements apart in shared memory: an odd multiple of 16 bytes, so that the
// 8 rows that ldmatrix reads at once are in different banks.
template <int D> constexpr int ROW = D | 8;

// Starts the block's copy of N rows into shared memory; those from `valid` on become zeros. A
// thread stays in its column of 16 bytes.
template <int D, int N, int THREADS>
static __device__ __forceinline__ void load_rows(real *to, const real *from, int stride, int valid)
{
    constexpr int CHUNKS = D / 8, STEP = THREADS / CHUNKS;
    const int first = threadIdx.x / CHUNKS, column = threadIdx.x % CHUNKS * 8;
    if (first >= STEP)
        return;
#pragma unroll
    for (int i = 0; i < N; i += STEP)
        if (const int row = first + i; row < N)
            cp_async<16>(to + row * ROW<D> + column, from + row * stride + column,
                         row < valid ? 16 : 0);
}

// A warp's copy of its N rows from shared memory, the first `valid` ones.
template <int D, int N>
static __device__ __forceinline__ void store_rows(real *to, int stride, const real *from, int valid)
{
    constexpr int CHUNKS = D / 8, STEP = 32 / CHUNKS;
    const int first = threadIdx.x % 32 / CHUNKS, column = threadIdx.x % 32 % CHUNKS * 8;
    __syncwarp();
    if (first >= STEP)
        return;
#pragma unroll 1
    for (int i = 0; i < N; i += STEP)
        if (const int row = first + i; row < min(N, valid))
            *reinterpret_cast<uint4 *>(to + row * stride + column) =
                *reinterpret_cast<const uint4 *>(from + row * ROW<D> + column);
}

// Where a lane finds its row of the four 8x8 matrices of 16 rows and 16 columns, in the order of A,
// and as of B, transposed.
template <int D> static __device__ __forceinline__ const real *lane_a(const real *rows)
{
    return rows + threadIdx.x % 16 * ROW<D> + threadIdx.x / 16 % 2 * 8;
}
template <int D> static __device__ __forceinline__ const real *lane_b(const real *rows)
{
    return rows + (threadIdx.x % 8 + threadIdx.x / 16 % 2 * 8) * ROW<D> + threadIdx.x / 8 % 2 * 8;
}

// Columns k .. k + 15 of 16 rows as A. Of D = 72 the last half is no memory but zeros.
template <int D>
static __device__ __forceinline__ void load_a(unsigned (&a)[4], const real *rows, int k)
{
    if (k + 16 <= D) {
        ldmatrix(a, lane_a<D>(rows) + k);
    } else {
        unsigned half[2];
        ldmatrix(half, lane_a<D>(rows) + k);
        a[0] = half[0], a[1] = half[1], a[2] = a[3] = 0;
    }
}

// Columns k .. k + 15 of 16 rows as two B of 8 columns each, transposed: b[0], b[1] and b[2], b[3].
template <int D>
static __device__ __forceinline__ void load_b(unsigned (&b)[4], const real *rows, int k)
{
    if (k + 16 <= D) {
        ldmatrix(b, lane_b<D>(rows) + k);
    } else {
        unsigned half[2];
        ldmatrix(half, lane_a<D>(rows) + k);
        b[0] = half[0], b[2] = half[1], b[1] = b[3] = 0;
    }
}

// c (16 M, 8 N) = a (16 M, D) b (8 N, D)^T, both in shared memory.
template <int D, int M, int N>
static __device__ __forceinline__ void multiply_rows(float (&c)[M][N][4], const real *a,
                                                     const real *b)
{
#pragma unroll
    for (int i = 0; i < M * N * 4; i++)
        c[i / (N * 4)][i / 4 % N][i % 4] = 0;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        unsigned left[M][4], right[4];
#pragma unroll
        for (int m = 0; m < M; m++)
            load_a<D>(left[m], a + m * 16 * ROW<D>, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            load_b<D>(right, b + n * 8 * ROW<D>, k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16(c[m][n], left[m], right[0], right[1]);
                mma_bf16(c[m][n + 1], left[m], right[2], right[3]);
            }
        }
    }
}

// c (16 M, D) += a (16 M, 16) b (16, D); b in shared memory.
template <int D, int M>
static __device__ __forceinline__ void add_product(float (&c)[M][D / 8][4],
                                                   const unsigned (&a)[M][4], const real *b)
{
    const real *at = lane_a<D>(b);
#pragma unroll
    for (int n = 0; n + 1 < D / 8; n += 2) {
        unsigned right[4];
        ldmatrix_trans(right, at + n * 8);
#pragma unroll
        for (int m = 0; m < M; m++) {
            mma_bf16(c[m][n], a[m], right[0], right[1]);
            mma_bf16(c[m][n + 1], a[m], right[2], right[3]);
        }
    }
    if (D / 8 % 2) {
        unsigned right[2];
        ldmatrix_trans(right, at + D - 8);
#pragma unroll
        for (int m = 0; m < M; m++)
            mma_bf16(c[m][D / 8 - 1], a[m], right[0], right[1]);
    }
}

// Two neighbouring results (16,8) as A (16,16).
static __device__ __forceinline__ void pack_a(unsigned (&a)[4], const float (&left)[4],
                                              const float (&right)[4])
{
    a[0] = pack_bf16(left[0], left[1]);
    a[1] = pack_bf16(left[2], left[3]);
    a[2] = pack_bf16(right[0], right[1]);
    a[3] = pack_bf16(right[2], right[3]);
}

// 16 rows of results into shared memory, rows g times upper, rows g + 8 times lower.
template <int D>
static __device__ __forceinline__ void put_rows(real *rows, const float (&c)[D / 8][4], float upper,
                                                float lower)
{
    const int lane = threadIdx.x % 32;
    real *at = rows + lane / 4 * ROW<D> + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        *reinterpret_cast<unsigned *>(at + n * 8) = pack_bf16(c[n][0] * upper, c[n][1] * upper);
        *reinterpret_cast<unsigned *>(at + 8 * ROW<D> + n * 8) =
            pack_bf16(c[n][2] * lower, c[n][3] * lower);
    }
}

#endif

// The general kernels: a block of 256 threads takes GENERAL_ROWS rows, each warp 4 of them, and
// goes through the others in tiles of GENERAL_COLUMNS, of which each lane takes 2. Of the D
// columns of a result a lane takes N, 32 apart; where 32 N are too few, more blocks make the rest.
constexpr int GENERAL_THREADS = 256, GENERAL_ROWS = 32, GENERAL_COLUMNS = 64, GENERAL_DEPTH = 32;
constexpr int GENERAL_STRIDE = GENERAL_DEPTH + 4; // 16-byte reads of 8 rows meet all banks

// Rows in device memory; beyond those that there are, and beyond D, zeros are read.
struct general_rows {
    const real *first;
    int stride, n, D;
};

static __device__ __forceinline__ general_rows rows_from(const real *first, int stride, int row,
                                                         int T, int D)
{
    return {first + row_offset(row, stride), stride, T - row, D};
}

static __device__ __forceinline__ float read_row(const general_rows &rows, int row, int column)
{
    return row < rows.n && column < rows.D
               ? to_float(rows.first[row_offset(row, rows.stride) + column])
               : 0;
}

struct general_shared {
    float work[(GENERAL_ROWS + GENERAL_COLUMNS) * GENERAL_STRIDE];
    float weights[GENERAL_COLUMNS * GENERAL_STRIDE]; // a column's rows lie together
};

// s[i][j] = row 4 warp + i of a times row lane + 32 j of b.
static __device__ __forceinline__ void general_dots(float (&s)[4][2], general_shared *shared,
                                                    const general_rows &a, const general_rows &b)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float *left = shared->work + warp * 4 * GENERAL_STRIDE;
    const float *right = shared->work + (GENERAL_ROWS + lane) * GENERAL_STRIDE;
#pragma unroll
    for (int i = 0; i < 8; i++)
        s[i / 2][i % 2] = 0;
    for (int start = 0; start < a.D; start += GENERAL_DEPTH) {
        __syncthreads();
        for (int row = warp; row < GENERAL_ROWS + GENERAL_COLUMNS; row += GENERAL_THREADS / 32)
            shared->work[row * GENERAL_STRIDE + lane] =
                row < GENERAL_ROWS ? read_row(a, row, start + lane)
                                   : read_row(b, row - GENERAL_ROWS, start + lane);
        __syncthreads();
#pragma unroll
        for (int d = 0; d < GENERAL_DEPTH; d += 4)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float4 y =
                    *reinterpret_cast<const float4 *>(right + j * 32 * GENERAL_STRIDE + d);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float4 x =
                        *reinterpret_cast<const float4 *>(left + i * GENERAL_STRIDE + d);
                    s[i][j] += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
                }
            }
    }
}

// sums[i][n] += the sum over a tile's rows k of x of weights[4 warp + i][k] x[k][column + 32 n],
// where this lane has the weights of rows lane and lane + 32 of x.
template <int N>
static __device__ __forceinline__ void general_add(float (&sums)[4][N], general_shared *shared,
                                                   const float (&weights)[4][2],
                                                   const general_rows &x, int column)
{
    constexpr int DEPTH = 64 / N; // so many rows of 32 N fit shared->work
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float *mine = shared->weights + warp * 4;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 2; j++)
        *reinterpret_cast<float4 *>(mine + (lane + 32 * j) * GENERAL_STRIDE) =
            make_float4(weights[0][j], weights[1][j], weights[2][j], weights[3][j]);
    for (int start = 0; start < min(GENERAL_COLUMNS, x.n); start += DEPTH) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < DEPTH * N / 8; i++) {
            const int strip = i * 8 + warp; // 32 elements of a row
            shared->work[strip * 32 + lane] =
                read_row(x, start + strip / N, column + strip % N * 32 + lane);
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < DEPTH; k++) {
            const float4 w = *reinterpret_cast<const float4 *>(mine + (start + k) * GENERAL_STRIDE);
#pragma unroll
            for (int n = 0; n < N; n++) {
                const float y = shared->work[(k * N + n) * 32 + lane];
                sums[0][n] += w.x * y;
                sums[1][n] += w.y * y;
                sums[2][n] += w.z * y;
                sums[3][n] += w.w * y;
            }
        }
    }
}

// Writes the results of row 4 warp + i times scale, to row `row` and column `column` on.
template <int N>
static __device__ __forceinline__ void general_store(real *to, const float (&sums)[N], float scale,
                                                     int column, int D)
{
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int at = column + n * 32 + threadIdx.x % 32;
        if (at < D)
            to[at] = to_real(sums[n] * scale);
    }
}

#endif
