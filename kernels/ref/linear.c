// Linear layers, y = x w^T + b, and their gradients, alone and with the GELU of the MLP.
// SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

// GELU by tanh (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016), and its derivative.
#define GELU_A 0.7978845608028654 // sqrt(2 / pi)
#define GELU_B 0.044715

static double gelu(double p)
{
    return 0.5 * p * (1 + tanh(GELU_A * (p + GELU_B * p * p * p)));
}

static double gelu_derivative(double p)
{
    double t = tanh(GELU_A * (p + GELU_B * p * p * p));
    return 0.5 * (1 + t) + 0.5 * p * (1 - t * t) * GELU_A * (1 + 3 * GELU_B * p * p);
}

void ref_gelu(DEVICE, act *y, const act *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i].v = (float)gelu(x[i].v);
}

void ref_linear(DEVICE, act *y, size_t stride, const act *x, const act *w, const act *b, size_t R,
                size_t I, size_t O)
{
    for (size_t r = 0; r < R; r++) {
        for (size_t o = 0; o < O; o++) {
            double sum = b ? b[o].v : 0;
            for (size_t i = 0; i < I; i++)
                sum += (double)x[r * I + i].v * w[o * I + i].v;
            y[r * stride + o].v = (float)sum;
        }
    }
}

void ref_linear_gelu(struct device *device, act *y, act *pre, const act *x, const act *w,
                     const act *b, size_t R, size_t I, size_t O)
{
    ref_linear(device, y, O, x, w, b, R, I, O);
    for (size_t n = 0; n < R * O; n++) {
        if (pre)
            pre[n] = y[n];
        y[n].v = (float)gelu(y[n].v);
    }
}

void ref_linear_backward_input(DEVICE, act *dx, const act *dy, const act *w, size_t R, size_t I,
                               size_t O)
{
    for (size_t r = 0; r < R; r++) {
        for (size_t i = 0; i < I; i++) {
            double sum = 0;
            for (size_t o = 0; o < O; o++)
                sum += (double)dy[r * O + o].v * w[o * I + i].v;
            dx[r * I + i].v = (float)sum;
        }
    }
}

void ref_linear_backward_input_gelu(struct device *device, act *dpre, const act *dy, const act *w,
                                    const act *pre, size_t R, size_t I, size_t O)
{
    ref_linear_backward_input(device, dpre, dy, w, R, I, O);
    for (size_t n = 0; n < R * I; n++)
        dpre[n].v = (float)(dpre[n].v * gelu_derivative(pre[n].v));
}

void ref_linear_backward_weight(DEVICE, float *dw, float *db, const act *dy, const act *x, size_t R,
                                size_t I, size_t O)
{
    for (size_t o = 0; o < O; o++) {
        for (size_t i = 0; i < I; i++) {
            double sum = dw[o * I + i];
            for (size_t r = 0; r < R; r++)
                sum += (double)dy[r * O + o].v * x[r * I + i].v;
            dw[o * I + i] = (float)sum;
        }
        if (db) {
            double sum = db[o];
            for (size_t r = 0; r < R; r++)
                sum += dy[r * O + o].v;
            db[o] = (float)sum;
        }
    }
}
