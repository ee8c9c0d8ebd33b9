// Linear layers and the GELU between them. SPDX-License-Identifier: MIT
#include "kernels/cpu/product.h"

static void add_bias(const struct product *p, const float *x, size_t i, size_t j, size_t n)
{
    float *c = p->c + i * p->N + j;
    const float *bias = p->bias + j;
#pragma omp simd
    for (size_t k = 0; k < n; k++)
        c[k] = x[k] + bias[k];
}

// c = gelu(x + bias); pre_out keeps x + bias.
static void add_bias_gelu(const struct product *p, const float *x, size_t i, size_t j, size_t n)
{
    float pre[TILE_N], *c = p->c + i * p->N + j;
    for (size_t k = 0; k < n; k++)
        pre[k] = x[k] + (p->bias ? p->bias[j + k] : 0);
    if (p->pre_out)
        memcpy(p->pre_out + i * p->N + j, pre, n * sizeof *pre);
#pragma omp simd
    for (size_t k = 0; k < n; k++)
        c[k] = simd_gelu(pre[k]);
}

// c = x gelu'(pre).
static void multiply_gelu_slope(const struct product *p, const float *x, size_t i, size_t j,
                                size_t n)
{
    float *c = p->c + i * p->N + j;
    const float *pre = p->pre + i * p->N + j;
#pragma omp simd
    for (size_t k = 0; k < n; k++)
        c[k] = x[k] * simd_gelu_slope(pre[k]);
}

void CPU_FN(linear)(struct device *device, act *y, const act *x, const act *w, const act *b,
                    size_t R, size_t I, size_t O)
{
    CPU_FN(product)
    (device, &(struct product){.M = R,
                               .N = O,
                               .K = I,
                               .a = {const_floats(x), I, 1},
                               .b = {const_floats(w), 1, I},
                               .c = floats(y),
                               .finish = b ? add_bias : NULL,
                               .bias = const_floats(b)});
}

void CPU_FN(linear_gelu)(struct device *device, act *y, act *pre, const act *x, const act *w,
                         const act *b, size_t R, size_t I, size_t O)
{
    CPU_FN(product)
    (device, &(struct product){.M = R,
                               .N = O,
                               .K = I,
                               .a = {const_floats(x), I, 1},
                               .b = {const_floats(w), 1, I},
                               .c = floats(y),
                               .finish = add_bias_gelu,
                               .bias = const_floats(b),
                               .pre_out = floats(pre)});
}

void CPU_FN(linear_backward_input)(struct device *device, act *dx, const act *dy, const act *w,
                                   size_t R, size_t I, size_t O)
{
    CPU_FN(product)
    (device, &(struct product){.M = R,
                               .N = I,
                               .K = O,
                               .a = {const_floats(dy), O, 1},
                               .b = {const_floats(w), I, 1},
                               .c = floats(dx)});
}

void CPU_FN(linear_backward_input_gelu)(struct device *device, act *dpre, const act *dy,
                                        const act *w, const act *pre, size_t R, size_t I, size_t O)
{
    CPU_FN(product)
    (device, &(struct product){.M = R,
                               .N = I,
                               .K = O,
                               .a = {const_floats(dy), O, 1},
                               .b = {const_floats(w), I, 1},
                               .c = floats(dpre),
                               .finish = multiply_gelu_slope,
                               .pre = const_floats(pre)});
}

void CPU_FN(linear_backward_weight)(struct device *device, float *dw, float *db, const act *dy,
                                    const act *x, size_t R, size_t I, size_t O)
{
    CPU_FN(product)
    (device, &(struct product){.M = O,
                               .N = I,
                               .K = R,
                               .a = {const_floats(dy), 1, O},
                               .b = {const_floats(x), I, 1},
                               .c = dw,
                               .accumulate = true,
                               .a_sums = db});
}
