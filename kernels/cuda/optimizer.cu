// AdamW and the norm of the gradient. SPDX-License-Identifier: MIT
//
// The norm reads 4 bytes a parameter. AdamW with clipping, the running average and the copy for the
// products is one pass that reads 20 bytes a parameter and writes 18 (16 of float32 arrays and 2 of
// the copy in bfloat16): 26 GB for DiT-XL/2, 8 ms on an H100. A block takes BLOCK_PARAMS
// parameters, each thread 4 at a time, 16 bytes of each array, so that five wide loads are in
// flight together.
#include "kernels/cuda/vector.h"

constexpr size_t BLOCK_PARAMS = 16384;

static __device__ __forceinline__ size_t block_end(size_t n)
{
    return min((blockIdx.x + static_cast<size_t>(1)) * BLOCK_PARAMS, n);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    sum_squares_kernel(double *block_sums, const float *x, size_t n)
{
    const size_t end = block_end(n);
    double sum = 0;
#pragma unroll 4
    for (size_t i = blockIdx.x * BLOCK_PARAMS + threadIdx.x * WIDTH; i < end;
         i += THREADS * WIDTH) {
        float v[WIDTH];
        load(v, x + i);
        for (int k = 0; k < WIDTH; k++)
            sum += static_cast<double>(v[k]) * v[k];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        block_sums[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(1024)
    add_block_squares(double *sum, const double *block_sums, size_t n)
{
    double total = 0;
#pragma unroll 4
    for (size_t i = threadIdx.x; i < n; i += 1024)
        total += block_sums[i];
    total = block_sum(total);
    if (threadIdx.x == 0)
        *sum = total;
}

void CUDA_FN(sum_squares)(struct device *device, double *sum, const float *x, size_t n)
{
    const unsigned blocks = blocks_for(n, BLOCK_PARAMS);
    double *block_sums = static_cast<double *>(cuda_scratch(device, blocks * sizeof(double)));
    if (!block_sums && blocks > 0)
        return;
    const auto sum_squares = can_be_wide(n, 4, x) ? sum_squares_kernel<4> : sum_squares_kernel<1>;
    if (blocks > 0)
        RUN_KERNEL(device, sum_squares, blocks, THREADS, 0, block_sums, x, n);
    RUN_KERNEL(device, add_block_squares, 1, 1024, 0, sum, block_sums, static_cast<size_t>(blocks));
}

// The constants of one step, computed in double and rounded to float32.
struct update {
    float b1, one_minus_b1, b2, one_minus_b2; // beta and 1 - beta
    float step_size, v_scale;                 // lr / c1, 1 / c2
    float decay, eps, one_minus_ema, max_norm;
};

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    adamw_kernel(float *w, real *value, float *ema, float *m, float *v, const float *g,
                 const double *norm2, struct update u, size_t n)
{
    const double square = *norm2;
    if (!isfinite(square))
        return;
    const float clip =
        u.max_norm > 0 ? static_cast<float>(fmin(1.0, u.max_norm / sqrt(square))) : 1;
    const size_t end = block_end(n);
    for (size_t i = blockIdx.x * BLOCK_PARAMS + threadIdx.x * WIDTH; i < end;
         i += THREADS * WIDTH) {
        float wi[WIDTH], ei[WIDTH], mi[WIDTH], vi[WIDTH], gi[WIDTH];
        load(gi, g + i);
        load(mi, m + i);
        load(vi, v + i);
        load(wi, w + i);
        load(ei, ema + i);
        for (int k = 0; k < WIDTH; k++) {
            gi[k] *= clip;
            mi[k] = u.b1 * mi[k] + u.one_minus_b1 * gi[k];
            vi[k] = u.b2 * vi[k] + u.one_minus_b2 * gi[k] * gi[k];
            wi[k] -= u.decay * wi[k] + u.step_size * mi[k] / (sqrtf(vi[k] * u.v_scale) + u.eps);
            ei[k] += u.one_minus_ema * (wi[k] - ei[k]);
        }
        store(m + i, mi);
        store(v + i, vi);
        store(w + i, wi);
        store(ema + i, ei);
        if (value)
            store(value + i, wi);
    }
}

void CUDA_FN(adamw)(struct device *device, float *w, act *value, float *ema, float *m, float *v,
                    const float *g, const double *norm2, const struct adamw *p, size_t n)
{
    if (n == 0)
        return;
    const double step = static_cast<double>(p->step), b1 = p->beta1, b2 = p->beta2, lr = p->lr;
    struct update u;
    u.b1 = p->beta1, u.one_minus_b1 = static_cast<float>(1 - b1);
    u.b2 = p->beta2, u.one_minus_b2 = static_cast<float>(1 - b2);
    u.step_size = static_cast<float>(lr / (1 - pow(b1, step)));
    u.v_scale = static_cast<float>(1 / (1 - pow(b2, step)));
    u.decay = static_cast<float>(lr * p->weight_decay), u.eps = p->eps;
    u.one_minus_ema = static_cast<float>(1 - p->ema_decay), u.max_norm = p->max_norm;
    // With float32 activations value may be w, which is written anyway.
    real *copy = static_cast<void *>(value) == w ? nullptr : reals(value);
    const auto adamw = can_be_wide(n, 4, w, ema, m, v, g) && can_be_wide(n, 4, copy)
                           ? adamw_kernel<4>
                           : adamw_kernel<1>;
    RUN_KERNEL(device, adamw, blocks_for(n, BLOCK_PARAMS), THREADS, 0, w, copy, ema, m, v, g, norm2,
               u, n);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    average_kernel(float *average, const float *w, const double *norm2, float rest, size_t n)
{
    if (!isfinite(*norm2))
        return;
    const size_t end = block_end(n);
    for (size_t i = blockIdx.x * BLOCK_PARAMS + threadIdx.x * WIDTH; i < end;
         i += THREADS * WIDTH) {
        float wi[WIDTH], ai[WIDTH];
        load(wi, w + i);
        load(ai, average + i);
        for (int k = 0; k < WIDTH; k++)
            ai[k] += rest * (wi[k] - ai[k]);
        store(average + i, ai);
    }
}

void CUDA_FN(average)(struct device *device, float *average, const float *w, const double *norm2,
                      double decay, size_t n)
{
    if (n == 0)
        return;
    const auto kernel = can_be_wide(n, 4, average, w) ? average_kernel<4> : average_kernel<1>;
    RUN_KERNEL(device, kernel, blocks_for(n, BLOCK_PARAMS), THREADS, 0, average, w, norm2,
               static_cast<float>(1 - decay), n);
}
