// Linear layers and their gradients, with the GELU of the MLP as an epilogue.
// SPDX-License-Identifier: MIT
#include "kernels/cpu/product.h"
#include "kernels/cpu/tile.h"

// Epilogue: keeps the pre-activation in epilogue_out, if asked for, and applies the GELU to what is
// kept there, as the operation gelu does.
static void apply_gelu(const struct product *p, float *tile, size_t i, size_t j, size_t rows,
                       size_t columns)
{
    if (p->epilogue_out)
        store_tile(p->epilogue_out + i * p->N + j, p->N, tile, TILE_N, rows, columns);
    for (vec *x = (vec *)tile; x < (vec *)(tile + TILE_M * TILE_N); x++)
        *x = vec_gelu(vec_round_real(*x));
}

// Epilogue: multiplies by the GELU's derivative at the pre-activation, epilogue_in.
static void apply_gelu_backward(const struct product *p, float *tile, size_t i, size_t j,
                                size_t rows, size_t columns)
{
    float pre[TILE_M * TILE_N] __attribute__((aligned(64))) = {0};
    load_tile(pre, TILE_N, p->epilogue_in + i * p->N + j, p->N, rows, columns);
    for (size_t n = 0; n < TILE_M * TILE_N; n += LANES)
        *(vec *)(tile + n) *= vec_gelu_derivative(vec_load(pre + n));
}

void CPU_FN(linear)(struct device *device, act *y, size_t stride, const act *x, const act *w,
                    const act *b, size_t R, size_t I, size_t O)
{
    const struct product p = {.M = R,
                              .N = O,
                              .K = I,
                              .a = {const_reals(x), I, 1},
                              .b = {const_reals(w), 1, I},
                              .c = reals(y),
                              .c_row = stride,
                              .bias = const_reals(b)};
    CPU_FN(product)(device, &p);
}

void CPU_FN(linear_gelu)(struct device *device, act *y, act *pre, const act *x, const act *w,
                         const act *b, size_t R, size_t I, size_t O)
{
    const struct product p = {.M = R,
                              .N = O,
                              .K = I,
                              .a = {const_reals(x), I, 1},
                              .b = {const_reals(w), 1, I},
                              .c = reals(y),
                              .c_row = O,
                              .bias = const_reals(b),
                              .epilogue = apply_gelu,
                              .epilogue_out = reals(pre)};
    CPU_FN(product)(device, &p);
}

void CPU_FN(linear_backward_input)(struct device *device, act *dx, const act *dy, const act *w,
                                   size_t R, size_t I, size_t O)
{
    const struct product p = {.M = R,
                              .N = I,
                              .K = O,
                              .a = {const_reals(dy), O, 1},
                              .b = {const_reals(w), I, 1},
                              .c = reals(dx),
                              .c_row = I};
    CPU_FN(product)(device, &p);
}

void CPU_FN(linear_backward_input_gelu)(struct device *device, act *dpre, const act *dy,
                                        const act *w, const act *pre, size_t R, size_t I, size_t O)
{
    const struct product p = {.M = R,
                              .N = I,
                              .K = O,
                              .a = {const_reals(dy), O, 1},
                              .b = {const_reals(w), I, 1},
                              .c = reals(dpre),
                              .c_row = I,
                              .epilogue = apply_gelu_backward,
                              .epilogue_in = const_reals(pre)};
    CPU_FN(product)(device, &p);
}

void CPU_FN(linear_backward_weight)(struct device *device, float *dw, float *db, const act *dy,
                                    const act *x, size_t R, size_t I, size_t O)
{
    const struct product p = {.M = O,
                              .N = I,
                              .K = R,
                              .a = {const_reals(dy), 1, O},
                              .b = {const_reals(x), I, 1},
                              .dw = dw,
                              .c_row = I,
                              .row_sums = db};
    CPU_FN(product)(device, &p);
}
