// Converts arrays between channels first and channels last, and computes the moments of latents.
// SPDX-License-Identifier: MIT
//
// These run at the ends of the autoencoder, where arrays have 3 to 8 channels: each moves its
// arrays once, 1 to 2 MB an image. A thread takes a pixel and goes through its channels, so that a
// warp accesses the float planes in whole cache lines, and fills those of the activations in a few
// rounds.
#include "kernels/cuda/vector.h"

static __global__ void channels_last_kernel(real *y, const float *x, size_t B, size_t C, size_t n)
{
    const size_t i = thread_place(1);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        for (size_t c = 0; c < C; c++)
            y[(b * n + i) * C + c] = to_real(x[(b * C + c) * n + i]);
}

static __global__ void channels_first_kernel(float *x, const real *y, size_t B, size_t C, size_t n)
{
    const size_t i = thread_place(1);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        for (size_t c = 0; c < C; c++)
            x[(b * C + c) * n + i] = to_float(y[(b * n + i) * C + c]);
}

static __global__ void posterior_kernel(float *mean, float *std, const real *moments, float scale,
                                        size_t B, size_t C, size_t n)
{
    const size_t i = thread_place(1);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        const real *m = moments + (b * n + i) * 2 * C;
        for (size_t c = 0; c < C; c++) {
            const float logvar = fminf(fmaxf(to_float(m[C + c]), -30.0f), 20.0f);
            mean[(b * C + c) * n + i] = scale * to_float(m[c]);
            std[(b * C + c) * n + i] = scale * expf(0.5f * logvar);
        }
    }
}

void CUDA_FN(channels_last)(struct device *device, act *y, const float *x, size_t B, size_t C,
                            size_t n)
{
    if (B * n > 0)
        RUN_KERNEL(device, channels_last_kernel, sample_grid(B, n, 1), THREADS, 0, reals(y), x, B,
                   C, n);
}

void CUDA_FN(channels_first)(struct device *device, float *x, const act *y, size_t B, size_t C,
                             size_t n)
{
    if (B * n > 0)
        RUN_KERNEL(device, channels_first_kernel, sample_grid(B, n, 1), THREADS, 0, x, reals(y), B,
                   C, n);
}

void CUDA_FN(posterior)(struct device *device, float *mean, float *std, const act *moments,
                        float scale, size_t B, size_t C, size_t n)
{
    if (B * n > 0)
        RUN_KERNEL(device, posterior_kernel, sample_grid(B, n, 1), THREADS, 0, mean, std,
                   reals(moments), scale, B, C, n);
}
