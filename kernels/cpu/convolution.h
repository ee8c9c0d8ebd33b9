// What the two ways to a 3x3 convolution share. SPDX-License-Identifier: MIT
#ifndef DIT_CPU_CONVOLUTION_H
#define DIT_CPU_CONVOLUTION_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

struct convolution {
    float *y;                        // (B,out_H,out_W,O)
    const float *x, *w, *bias, *sum; // (B,H,W,I), (O,3,3,I), (O), as y or NULL
    enum conv_kind kind;
    size_t B, H, W, I, O, out_H, out_W;
};

// Where position `at` (-1 wraps around) of what the taps run over lies along one side of x, of
// `size` pixels; SIZE_MAX: outside.
INLINE size_t find_pixel(enum conv_kind kind, size_t size, size_t at)
{
    if (kind == CONV_UP)
        return at < 2 * size ? at / 2 : SIZE_MAX;
    return at < size ? at : SIZE_MAX;
}

// By Winograd's minimal filtering; not for CONV_DOWN; I and O multiples of 16.
void CPU_FN(winograd)(struct device *device, const struct convolution *p);

#endif
