// The network that compares images, and products in float64. SPDX-License-Identifier: MIT
//
// The convolution is a plain implicit GEMM on float32 in shared memory, without tensor cores: the
// network runs once for each image that is evaluated, which costs far more to draw. The other
// kernels take an element a thread and are bound by memory.
#include "kernels/cuda/vector.h"

// Every product and sum rounds, as kernels/ref/inception.c does it.
static __device__ __forceinline__ float mix(float a, float b, float d)
{
    return __fadd_rn(a, __fmul_rn(__fsub_rn(b, a), d));
}

static __global__ void resize_images_kernel(real *y, const uint8_t *images, size_t B, size_t H,
                                            size_t W, size_t out)
{
    const size_t i = thread_place(1);
    if (i >= out * out)
        return;
    const float s_row = __fmul_rn(static_cast<float>(i / out),
                                  __fdiv_rn(static_cast<float>(H), static_cast<float>(out)));
    const float s_column = __fmul_rn(static_cast<float>(i % out),
                                     __fdiv_rn(static_cast<float>(W), static_cast<float>(out)));
    const size_t row = static_cast<size_t>(s_row), column = static_cast<size_t>(s_column);
    const float d_row = __fsub_rn(s_row, static_cast<float>(row));
    const float d_column = __fsub_rn(s_column, static_cast<float>(column));
    const size_t below = row + 1 < H ? row + 1 : H - 1, right = column + 1 < W ? column + 1 : W - 1;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        for (size_t c = 0; c < 3; c++) {
            const uint8_t *x = images + b * H * W * 3 + c;
            const float top = mix(x[(row * W + column) * 3], x[(row * W + right) * 3], d_column);
            const float bottom =
                mix(x[(below * W + column) * 3], x[(below * W + right) * 3], d_column);
            y[(b * out * out + i) * 3 + c] = to_real((mix(top, bottom, d_row) - 128) / 128);
        }
}

#define TILE       64                             // pixels and output channels of a block
#define DEPTH      16                             // columns of the im2col matrix at a time
#define EACH       4                              // pixels and output channels of a thread
#define PIXELS_MAX (static_cast<size_t>(1) << 30) // of a launch: 32 bits count them

// Row n of the im2col matrix, column k; 0 in the padding.
static __device__ __forceinline__ float im2col_value(const real *x, const struct conv2d &p,
                                                     unsigned out_H, unsigned out_W, unsigned n,
                                                     unsigned k)
{
    const unsigned I = static_cast<unsigned>(p.I), kernel_W = static_cast<unsigned>(p.kernel_W);
    const unsigned tap = k / I, line = n / out_W;
    // Above and left of x these wrap around, and so lie beyond it.
    const size_t row = line % out_H * p.stride + tap / kernel_W - p.pad_H;
    const size_t column = n % out_W * p.stride + tap % kernel_W - p.pad_W;
    if (row >= p.H || column >= p.W)
        return 0;
    return to_float(x[((line / out_H * p.H + row) * p.W + column) * I + k % I]);
}

static __global__ void conv2d_relu_kernel(real *y, size_t y_stride, const real *x, const real *w,
                                          const real *b, struct conv2d p, unsigned out_H,
                                          unsigned out_W, unsigned M)
{
    SHARED(float, pixels, [DEPTH][TILE]);
    SHARED(float, weights, [DEPTH][TILE]);
    const unsigned K = static_cast<unsigned>(p.kernel_H * p.kernel_W * p.I);
    const unsigned O = static_cast<unsigned>(p.O), n0 = blockIdx.x * TILE, o0 = blockIdx.y * TILE;
    const unsigned down = threadIdx.x / (TILE / EACH), across = threadIdx.x % (TILE / EACH);
    float sums[EACH][EACH] = {};
    for (unsigned k0 = 0; k0 < K; k0 += DEPTH) {
        for (unsigned i = threadIdx.x; i < DEPTH * TILE; i += THREADS) {
            const unsigned k = k0 + i % DEPTH, n = i / DEPTH;
            pixels[i % DEPTH][n] =
                k < K && n0 + n < M ? im2col_value(x, p, out_H, out_W, n0 + n, k) : 0;
            weights[i % DEPTH][n] =
                k < K && o0 + n < O ? to_float(w[static_cast<size_t>(o0 + n) * K + k]) : 0;
        }
        __syncthreads();
        for (unsigned k = 0; k < DEPTH; k++)
            for (unsigned i = 0; i < EACH; i++)
                for (unsigned j = 0; j < EACH; j++)
                    sums[i][j] += pixels[k][down * EACH + i] * weights[k][across * EACH + j];
        __syncthreads();
    }
    for (unsigned i = 0; i < EACH; i++)
        for (unsigned j = 0; j < EACH; j++) {
            const unsigned n = n0 + down * EACH + i, o = o0 + across * EACH + j;
            if (n < M && o < O)
                y[n * y_stride + o] = to_real(fmaxf(sums[i][j] + to_float(b[o]), 0));
        }
}

static __global__ void pool3x3_kernel(real *y, size_t y_stride, const real *x, enum pool_kind kind,
                                      size_t stride, size_t padding, size_t pixels, size_t H,
                                      size_t W, size_t C, size_t out_H, size_t out_W)
{
    const size_t c = thread_place(1);
    if (c >= C)
        return;
    for (size_t n = blockIdx.y; n < pixels; n += gridDim.y) {
        const real *from = x + n / (out_H * out_W) * H * W * C + c;
        float sum = 0, most = -INFINITY;
        int count = 0;
        for (size_t tap = 0; tap < 9; tap++) {
            const size_t row = n / out_W % out_H * stride + tap / 3 - padding;
            const size_t column = n % out_W * stride + tap % 3 - padding;
            if (row >= H || column >= W)
                continue;
            const float value = to_float(from[(row * W + column) * C]);
            sum += value;
            most = fmaxf(most, value);
            count++;
        }
        y[n * y_stride + c] = to_real(kind == POOL_MAX ? most : sum / static_cast<float>(count));
    }
}

static __global__ void mean_pixels_kernel(float *y, const real *x, size_t B, size_t n, size_t C)
{
    const size_t c = thread_place(1);
    if (c >= C)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        float sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += to_float(x[(b * n + i) * C + c]);
        y[b * C + c] = sum / static_cast<float>(n);
    }
}

static __global__ void take_columns_kernel(float *y, const real *x, size_t stride, size_t R,
                                           size_t n)
{
    const size_t i = thread_place(1);
    if (i < R * n)
        y[i] = to_float(x[i / n * stride + i % n]);
}

static __global__ void product_f64_kernel(double *c, const double *a, const double *b, size_t R,
                                          size_t I, size_t O)
{
    const size_t o = thread_place(1);
    if (o >= O)
        return;
    for (size_t r = blockIdx.y; r < R; r += gridDim.y) {
        double sum = 0;
        for (size_t i = 0; i < I; i++)
            sum += a[r * I + i] * b[o * I + i];
        c[r * O + o] += sum;
    }
}

void CUDA_FN(resize_images)(struct device *device, act *y, const uint8_t *images, size_t B,
                            size_t H, size_t W, size_t out)
{
    if (B > 0)
        RUN_KERNEL(device, resize_images_kernel, sample_grid(B, out * out, 1), THREADS, 0, reals(y),
                   images, B, H, W, out);
}

void CUDA_FN(conv2d_relu)(struct device *device, act *y, size_t y_stride, const act *x,
                          const act *w, const act *b, const struct conv2d *p, size_t B)
{
    const size_t out_H = conv2d_out_H(p), out_W = conv2d_out_W(p), pixels = out_H * out_W;
    const size_t group = pixels < PIXELS_MAX ? PIXELS_MAX / pixels : 1; // images of a launch
    for (size_t n = 0; n < B; n += group) {
        const size_t M = (B - n < group ? B - n : group) * pixels;
        RUN_KERNEL(device, conv2d_relu_kernel, dim3(blocks_for(M, TILE), blocks_for(p->O, TILE)),
                   THREADS, 0, reals(y) + n * pixels * y_stride, y_stride,
                   reals(x) + n * p->H * p->W * p->I, reals(w), reals(b), *p,
                   static_cast<unsigned>(out_H), static_cast<unsigned>(out_W),
                   static_cast<unsigned>(M));
    }
}

void CUDA_FN(pool3x3)(struct device *device, act *y, size_t y_stride, const act *x,
                      enum pool_kind kind, size_t stride, size_t padding, size_t B, size_t H,
                      size_t W, size_t C)
{
    const size_t out_H = pool3x3_out(H, stride, padding), out_W = pool3x3_out(W, stride, padding);
    if (B > 0)
        RUN_KERNEL(device, pool3x3_kernel, sample_grid(B * out_H * out_W, C, 1), THREADS, 0,
                   reals(y), y_stride, reals(x), kind, stride, padding, B * out_H * out_W, H, W, C,
                   out_H, out_W);
}

void CUDA_FN(mean_pixels)(struct device *device, float *y, const act *x, size_t B, size_t n,
                          size_t C)
{
    if (B > 0)
        RUN_KERNEL(device, mean_pixels_kernel, sample_grid(B, C, 1), THREADS, 0, y, reals(x), B, n,
                   C);
}

void CUDA_FN(take_columns)(struct device *device, float *y, const act *x, size_t stride, size_t R,
                           size_t n)
{
    if (R * n > 0)
        RUN_KERNEL(device, take_columns_kernel, sample_grid(1, R * n, 1), THREADS, 0, y, reals(x),
                   stride, R, n);
}

void CUDA_FN(product_f64)(struct device *device, double *c, const double *a, const double *b,
                          size_t R, size_t I, size_t O)
{
    if (R * O > 0)
        RUN_KERNEL(device, product_f64_kernel, sample_grid(R, O, 1), THREADS, 0, c, a, b, R, I, O);
}
