// AdamW and the norm of the gradient. SPDX-License-Identifier: MIT
//
// The norm reads 4 bytes a parameter. AdamW with clipping, the running average and the copy for the
// products is one pass of 20 bytes read and 18 written a parameter (16 of them float32 arrays, 2
// the copy in bfloat16): 26 GB for DiT-XL/2, 8 ms on an H100. A block takes SPAN parameters, each
// thread 4 at a time, 16 bytes of each array, so that five wide loads are on their way together.
#include "kernels/cuda/vector.h"

#define SPAN static_cast<size_t>(16384) // parameters of a block

static __device__ __forceinline__ size_t span_end(size_t n)
{
    return min((blockIdx.x + static_cast<size_t>(1)) * SPAN, n);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    sum_squares_kernel(double *parts, const float *x, size_t n)
{
    const size_t end = span_end(n);
    double sum = 0;
#pragma unroll 4
    for (size_t i = blockIdx.x * SPAN + threadIdx.x * WIDTH; i < end; i += THREADS * WIDTH) {
        float v[WIDTH];
        load(v, x + i);
        for (int k = 0; k < WIDTH; k++)
            sum += static_cast<double>(v[k]) * v[k];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(1024) add_parts(double *sum, const double *parts, size_t n)
{
    double total = 0;
#pragma unroll 4
    for (size_t i = threadIdx.x; i < n; i += 1024)
        total += parts[i];
    total = block_sum(total);
    if (threadIdx.x == 0)
        *sum = total;
}

void CUDA_FN(sum_squares)(struct device *device, double *sum, const float *x, size_t n)
{
    const unsigned blocks = blocks_for(n, SPAN);
    double *parts = static_cast<double *>(cuda_scratch(device, blocks * sizeof(double)));
    if (!parts && blocks > 0)
        return;
    const auto sum_squares = can_be_wide(n, 4, x) ? sum_squares_kernel<4> : sum_squares_kernel<1>;
    if (blocks > 0)
        RUN_KERNEL(device, sum_squares, blocks, THREADS, 0, parts, x, n);
    RUN_KERNEL(device, add_parts, 1, 1024, 0, sum, parts, static_cast<size_t>(blocks));
}

// The constants of one step, as float32 as can be.
struct update {
    float b1, rest1, b2, rest2; // beta, 1 - beta
    float rate, v_scale;        // lr / c1, 1 / c2
    float decay, eps, ema_rest, max_norm;
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
    const size_t end = span_end(n);
    for (size_t i = blockIdx.x * SPAN + threadIdx.x * WIDTH; i < end; i += THREADS * WIDTH) {
        float wi[WIDTH], ei[WIDTH], mi[WIDTH], vi[WIDTH], gi[WIDTH];
        load(gi, g + i);
        load(mi, m + i);
        load(vi, v + i);
        load(wi, w + i);
        load(ei, ema + i);
        for (int k = 0; k < WIDTH; k++) {
            gi[k] *= clip;
            mi[k] = u.b1 * mi[k] + u.rest1 * gi[k];
            vi[k] = u.b2 * vi[k] + u.rest2 * gi[k] * gi[k];
            wi[k] -= u.decay * wi[k] + u.rate * mi[k] / (sqrtf(vi[k] * u.v_scale) + u.eps);
            ei[k] += u.ema_rest * (wi[k] - ei[k]);
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
    u.b1 = p->beta1, u.rest1 = static_cast<float>(1 - b1);
    u.b2 = p->beta2, u.rest2 = static_cast<float>(1 - b2);
    u.rate = static_cast<float>(lr / (1 - pow(b1, step)));
    u.v_scale = static_cast<float>(1 / (1 - pow(b2, step)));
    u.decay = static_cast<float>(lr * p->weight_decay), u.eps = p->eps;
    u.ema_rest = static_cast<float>(1 - p->ema_decay), u.max_norm = p->max_norm;
    // Where activations are float32, value may be w: then it is written already.
    real *copy = static_cast<void *>(value) == w ? nullptr : reals(value);
    const auto adamw = can_be_wide(n, 4, w, ema, m, v, g) && can_be_wide(n, 4, copy)
                           ? adamw_kernel<4>
                           : adamw_kernel<1>;
    RUN_KERNEL(device, adamw, blocks_for(n, SPAN), THREADS, 0, w, copy, ema, m, v, g, norm2, u, n);
}
