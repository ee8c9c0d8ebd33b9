// Operations on single elements: SiLU, sums and conversions. SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

void ref_silu(DEVICE, act *y, const act *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i].v = (float)(x[i].v * sigmoid(x[i].v));
}

void ref_silu_backward(DEVICE, act *dx, const act *dy, const act *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double s = sigmoid(x[i].v);
        dx[i].v = (float)(dy[i].v * s * (1 + x[i].v * (1 - s)));
    }
}

void ref_add_row(DEVICE, act *x, const act *row, size_t B, size_t n)
{
    for (size_t i = 0; i < B * n; i++)
        x[i].v += row[i % n].v;
}

void ref_to_act(DEVICE, act *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i].v = x[i];
}
