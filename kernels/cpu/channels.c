// Converts arrays from channels first to channels last and back; the posterior of the autoencoder.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#define BLOCK 64 // pixels at a time, few enough that all their channels stay in the cache

struct pixel_block {
    size_t sample, first, end; // pixels first .. end - 1 of the sample
};

INLINE struct pixel_block find_pixel_block(size_t number, size_t n)
{
    const size_t blocks = divide_up(n, BLOCK), first = number % blocks * BLOCK;
    return (struct pixel_block){number / blocks, first, min(first + BLOCK, n)};
}

void CPU_FN(channels_last)(struct device *device, act *y, const float *x, size_t B, size_t C,
                           size_t n)
{
#pragma omp parallel for num_threads(threads_for(device, B *C *n))
    for (size_t k = 0; k < B * divide_up(n, BLOCK); k++) {
        const struct pixel_block block = find_pixel_block(k, n);
        const float *from = x + block.sample * C * n;
        float *to = floats(y) + block.sample * n * C;
        for (size_t c = 0; c < C; c++)
            for (size_t i = block.first; i < block.end; i++)
                to[i * C + c] = from[c * n + i];
    }
}

void CPU_FN(channels_first)(struct device *device, float *x, const act *y, size_t B, size_t C,
                            size_t n)
{
#pragma omp parallel for num_threads(threads_for(device, B *C *n))
    for (size_t k = 0; k < B * divide_up(n, BLOCK); k++) {
        const struct pixel_block block = find_pixel_block(k, n);
        const float *from = const_floats(y) + block.sample * n * C;
        float *to = x + block.sample * C * n;
        for (size_t c = 0; c < C; c++)
            for (size_t i = block.first; i < block.end; i++)
                to[c * n + i] = from[i * C + c];
    }
}

void CPU_FN(posterior)(struct device *device, float *mean, float *std, const act *moments,
                       float scale, size_t B, size_t C, size_t n)
{
#pragma omp parallel for num_threads(threads_for(device, B *C *n))
    for (size_t k = 0; k < B * divide_up(n, BLOCK); k++) {
        const struct pixel_block block = find_pixel_block(k, n);
        for (size_t c = 0; c < C; c++) {
            const float *from = const_floats(moments) + block.sample * n * 2 * C + c;
            float *m = mean + (block.sample * C + c) * n, *s = std + (block.sample * C + c) * n;
#pragma omp simd
            for (size_t i = block.first; i < block.end; i++) {
                float logvar = from[i * 2 * C + C];
                logvar = logvar > -30 ? logvar : -30; // also for NaN
                logvar = logvar < 20 ? logvar : 20;
                m[i] = scale * from[i * 2 * C];
                s[i] = scale * simd_exp(0.5f * logvar);
            }
        }
    }
}
