// The arguments of a 3x3 convolution, which its two implementations (im2col and Winograd) share.
// SPDX-License-Identifier: MIT
#ifndef DIT_CPU_CONVOLUTION_H
#define DIT_CPU_CONVOLUTION_H

#include "kernels/cpu/real.h"

struct convolution {
    real *y;                  // (B,out_H,out_W,O), whose pixels are y_row activations apart
    const real *x, *w, *bias; // (B,H,W,I), (O,3,3,I), (O)
    const real *sum;          // as y: added to the result; may be y, or NULL
    size_t y_row;
    enum conv_kind kind;
    size_t padding; // pixels of zeros above x and on its left
    bool relu;      // the maximum of the result and 0; only by winograd
    size_t B, H, W, I, O, out_H, out_W;
};

// By Winograd's minimal filtering. I must be a multiple of 16, and O one of WINOGRAD_PANEL.
#define WINOGRAD_PANEL (LANES < 8 ? 16 : 2 * LANES)
void CPU_FN(winograd)(struct device *device, const struct convolution *p);

#endif
