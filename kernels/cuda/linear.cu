// Linear layers: one matrix product each, with a fused epilogue; and the gradients of biases.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/vector.h"

// y (R,O) = x (R,I) w^T
static struct gemm forward_product(act *y, const act *x, const act *w, size_t R, size_t I, size_t O)
{
    struct gemm gemm = {};
    gemm.bits = CUDA_BITS;
    gemm.M = R, gemm.N = O, gemm.K = I;
    gemm.a = x, gemm.a_row = I;
    gemm.b = w, gemm.b_row = I, gemm.b_transposed = true;
    gemm.c = y, gemm.c_row = O;
    return gemm;
}

// dx (R,I) = dy (R,O) w
static struct gemm backward_product(act *dx, const act *dy, const act *w, size_t R, size_t I,
                                    size_t O)
{
    struct gemm gemm = {};
    gemm.bits = CUDA_BITS;
    gemm.M = R, gemm.N = I, gemm.K = O;
    gemm.a = dy, gemm.a_row = O;
    gemm.b = w, gemm.b_row = I;
    gemm.c = dx, gemm.c_row = I;
    return gemm;
}

void CUDA_FN(linear)(struct device *device, act *y, size_t stride, const act *x, const act *w,
                     const act *b, size_t R, size_t I, size_t O)
{
    struct gemm gemm = forward_product(y, x, w, R, I, O);
    gemm.c_row = stride;
    gemm.epilogue = b ? GEMM_BIAS : GEMM_PLAIN;
    gemm.bias = b;
    gemm_run(device, &gemm);
}

void CUDA_FN(linear_gelu)(struct device *device, act *y, act *pre, const act *x, const act *w,
                          const act *b, size_t R, size_t I, size_t O)
{
    struct gemm gemm = forward_product(y, x, w, R, I, O);
    gemm.epilogue = GEMM_BIAS_GELU;
    gemm.bias = b;
    gemm.aux = pre;
    gemm_run(device, &gemm);
}

void CUDA_FN(linear_backward_input)(struct device *device, act *dx, const act *dy, const act *w,
                                    size_t R, size_t I, size_t O)
{
    const struct gemm gemm = backward_product(dx, dy, w, R, I, O);
    gemm_run(device, &gemm);
}

void CUDA_FN(linear_backward_input_gelu)(struct device *device, act *dpre, const act *dy,
                                         const act *w, const act *pre, size_t R, size_t I, size_t O)
{
    struct gemm gemm = backward_product(dpre, dy, w, R, I, O);
    gemm.epilogue = GEMM_DGELU;
    gemm.aux = const_cast<act *>(pre); // only read
    gemm_run(device, &gemm);
}

// The sums over the rows of dy (R,O), which is read once: a block of 32 x 8 threads sums BLOCK_ROWS
// rows of 32 WIDTH columns; then add_block_sums adds the blocks' sums in a fixed order.
constexpr int BLOCK_ROWS = 512;
template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    sum_rows(float *partial, const real *dy, size_t R, size_t O)
{
    SHARED(float, sums, [8][32 * WIDTH]);
    const size_t column = (blockIdx.x * 32ull + threadIdx.x) * WIDTH;
    const size_t first = blockIdx.y * static_cast<size_t>(BLOCK_ROWS),
                 end = min(R, first + BLOCK_ROWS);
    float sum[WIDTH] = {};
    if (column < O)
#pragma unroll 4
        for (size_t row = first + threadIdx.y; row < end; row += 8) {
            float values[WIDTH];
            load(values, dy + row * O + column);
            for (int k = 0; k < WIDTH; k++)
                sum[k] += values[k];
        }
    for (int k = 0; k < WIDTH; k++)
        sums[threadIdx.y][k * 32 + threadIdx.x] = sum[k];
    __syncthreads();
    if (column >= O)
        return;
    for (int k = threadIdx.y; k < WIDTH; k += 8) {
        float total = 0;
        for (int i = 0; i < 8; i++)
            total += sums[i][k * 32 + threadIdx.x];
        partial[blockIdx.y * O + column + k] = total;
    }
}

// A block of 32 x 8 threads adds the partial sums of 32 columns: each row of threads every eighth
// part, so that eight times as many loads are in flight as with a thread for each column.
static __global__ void __launch_bounds__(THREADS)
    add_block_sums(float *db, const float *partial, size_t parts, size_t O)
{
    SHARED(float, sums, [8][32]);
    const size_t column = blockIdx.x * 32ull + threadIdx.x;
    float sum = 0;
    if (column < O)
#pragma unroll 4
        for (size_t part = threadIdx.y; part < parts; part += 8)
            sum += partial[part * O + column];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= O)
        return;
    for (int i = 1; i < 8; i++)
        sum += sums[i][threadIdx.x];
    db[column] += sum;
}

void CUDA_FN(linear_backward_weight)(struct device *device, float *dw, float *db, const act *dy,
                                     const act *x, size_t R, size_t I, size_t O)
{
    struct gemm gemm = {};
    gemm.bits = CUDA_BITS;
    gemm.M = O, gemm.N = I, gemm.K = R;
    gemm.a = dy, gemm.a_row = O, gemm.a_transposed = true;
    gemm.b = x, gemm.b_row = I;
    gemm.c = dw, gemm.c_row = I;
    gemm.c_float = gemm.accumulate = true;
    gemm_run(device, &gemm);
    if (!db || R == 0)
        return;
    const unsigned parts = blocks_for(R, BLOCK_ROWS);
    float *partial = static_cast<float *>(cuda_scratch(device, parts * O * sizeof(float)));
    if (!partial)
        return;
    const bool wide = can_be_wide(O, PACK, reals(dy));
    const auto bias_gradient = wide ? sum_rows<PACK> : sum_rows<1>;
    RUN_KERNEL(device, bias_gradient, dim3(blocks_for(O, 32 * (wide ? PACK : 1)), parts),
               dim3(32, 8), 0, partial, reals(dy), R, O);
    RUN_KERNEL(device, add_block_sums, blocks_for(O, 32), dim3(32, 8), 0, db, partial, parts, O);
}
