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

// By Winograd's minimal filtering; I and O multiples of 16.
void CPU_FN(winograd)(struct device *device, const struct convolution *p);

#endif
