// The parts that attention.cu and attention-backward.cu share: the offsets of a head, products on
// tensor cores (bfloat16), and products by plain multiplications (any head size and precision).
// SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_ATTENTION_H
#define DIT_CUDA_ATTENTION_H

#include <math.h>

#include <initializer_list>

#include "kernels/cuda/backend.h"

// The offsets of one head: the query of token t is at qkv + t * qkv_row, its key is out_row further
// on and its value 2 out_row; its output is at out + t * out_row.
struct head_offsets {
    size_t qkv, out;
    int qkv_row, out_row;
    size_t index; // in (B,H)
};

// All grids are (blocks of a head, H, B), so that blocks that run together share a sample's rows.
static __device__ __forceinline__ head_offsets find_head(int T, int H, int D)
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

constexpr size_t GRID_Z_MAX = 65535; // samples of one launch

constexpr float LOG2_E = 1.44269504f;

#if CUDA_BITS == 16

// Whether the kernels for tensor cores support the head size D and the alignment of these
// addresses.
static inline bool can_use_tensor_cores(size_t D, std::initializer_list<const void *> addresses)
{
    uintptr_t bits = 0;
    for (const void *address : addresses)
        bits |= reinterpret_cast<uintptr_t>(address);
    return (D == 64 || D == 72) && bits % 16 == 0;
}

// The distance of rows in shared memory, in elements: an odd multiple of 16 bytes, so that the 8
// rows that ldmatrix reads at once are in different banks.
template <int D> constexpr int ROW = D | 8;

// Starts the block's copy of N rows into shared memory; rows from `valid` on become zeros. Each
// thread copies one column of 16-byte vectors.
template <int D, int N, int THREADS>
static __device__ __forceinline__ void load_rows(real *to, const real *from, int stride, int valid)
{
    constexpr int VECTORS = D / 8, STEP = THREADS / VECTORS;
    const int first = threadIdx.x / VECTORS, column = threadIdx.x % VECTORS * 8;
    if (first >= STEP)
        return;
#pragma unroll
    for (int i = 0; i < N; i += STEP)
        if (const int row = first + i; row < N)
            cp_async<16>(to + row * ROW<D> + column, from + row * stride + column,
                         row < valid ? 16 : 0);
}

// Copies the first `valid` of a warp's N rows from shared memory.
template <int D, int N>
static __device__ __forceinline__ void store_rows(real *to, int stride, const real *from, int valid)
{
    constexpr int VECTORS = D / 8, STEP = 32 / VECTORS;
    const int first = threadIdx.x % 32 / VECTORS, column = threadIdx.x % 32 % VECTORS * 8;
    __syncwarp();
    if (first >= STEP)
        return;
#pragma unroll 1
    for (int i = 0; i < N; i += STEP)
        if (const int row = first + i; row < min(N, valid))
            *reinterpret_cast<uint4 *>(to + row * stride + column) =
                *reinterpret_cast<const uint4 *>(from + row * ROW<D> + column);
}

// The address that a lane gives to ldmatrix for the four 8x8 matrices of 16 rows and 16 columns, in
// the order of an A fragment, or of a transposed B fragment.
template <int D> static __device__ __forceinline__ const real *a_matrix_row(const real *rows)
{
    return rows + threadIdx.x % 16 * ROW<D> + threadIdx.x / 16 % 2 * 8;
}
template <int D> static __device__ __forceinline__ const real *b_matrix_row(const real *rows)
{
    return rows + (threadIdx.x % 8 + threadIdx.x / 16 % 2 * 8) * ROW<D> + threadIdx.x / 8 % 2 * 8;
}

// Loads columns k .. k + 15 of 16 rows as A. For D = 72 the second half of the last 16 is zeros.
template <int D>
static __device__ __forceinline__ void load_a_fragment(unsigned (&a)[4], const real *rows, int k)
{
    if (k + 16 <= D) {
        ldmatrix(a, a_matrix_row<D>(rows) + k);
    } else {
        unsigned half[2];
        ldmatrix(half, a_matrix_row<D>(rows) + k);
        a[0] = half[0], a[1] = half[1], a[2] = a[3] = 0;
    }
}

// Loads columns k .. k + 15 of 16 rows, transposed, as two B fragments of 8 columns: b[0], b[1] and
// b[2], b[3].
template <int D>
static __device__ __forceinline__ void load_b_fragment(unsigned (&b)[4], const real *rows, int k)
{
    if (k + 16 <= D) {
        ldmatrix(b, b_matrix_row<D>(rows) + k);
    } else {
        unsigned half[2];
        ldmatrix(half, a_matrix_row<D>(rows) + k);
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
            load_a_fragment<D>(left[m], a + m * 16 * ROW<D>, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            load_b_fragment<D>(right, b + n * 8 * ROW<D>, k);
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
static __device__ __forceinline__ void multiply_add_rows(float (&c)[M][D / 8][4],
                                                         const unsigned (&a)[M][4], const real *b)
{
    const real *at = a_matrix_row<D>(b);
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

// Packs two adjacent accumulators (16,8) into an A fragment (16,16).
static __device__ __forceinline__ void pack_a_fragment(unsigned (&a)[4], const float (&left)[4],
                                                       const float (&right)[4])
{
    a[0] = pack_bf16(left[0], left[1]);
    a[1] = pack_bf16(left[2], left[3]);
    a[2] = pack_bf16(right[0], right[1]);
    a[3] = pack_bf16(right[2], right[3]);
}

// Stores the accumulators of 16 rows to shared memory: rows g times upper, rows g + 8 times lower.
template <int D>
static __device__ __forceinline__ void store_fragments(real *rows, const float (&c)[D / 8][4],
                                                       float upper, float lower)
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

// The general kernels: a block of 256 threads takes GENERAL_ROWS rows of the logits, 4 for each
// warp, and goes through their columns in tiles of GENERAL_COLUMNS, 2 for each lane. Of the D
// columns of a result a lane computes N, 32 apart; if D exceeds 32 N, further blocks compute the
// rest.
constexpr int GENERAL_THREADS = 256, GENERAL_ROWS = 32, GENERAL_COLUMNS = 64, GENERAL_DEPTH = 32;
constexpr int GENERAL_STRIDE = GENERAL_DEPTH + 4; // so that 16-byte reads of 8 rows use all banks

// Rows in device memory. Reads beyond row n and column D return zero.
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
    float weights[GENERAL_COLUMNS * GENERAL_STRIDE]; // by columns
};

// s[i][j] = dot product of row 4 warp + i of a and row lane + 32 j of b.
static __device__ __forceinline__ void general_dot_products(float (&s)[4][2],
                                                            general_shared *shared,
                                                            const general_rows &a,
                                                            const general_rows &b)
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

// sums[i][n] += the sum over a tile's rows k of weights[4 warp + i][k] x[k][column + 32 n]. Each
// lane passes the weights of its rows k = lane and lane + 32.
template <int N>
static __device__ __forceinline__ void
general_add_product(float (&sums)[4][N], general_shared *shared, const float (&weights)[4][2],
                    const general_rows &x, int column)
{
    constexpr int DEPTH = 64 / N; // rows of 32 N that fit in shared->work
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

// Stores N columns of a result, times scale, from `column` on, 32 apart for each lane.
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
