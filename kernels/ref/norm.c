// LayerNorm with adaptive shift, scale and gate: adaLN-Zero of Peebles and Xie, "Scalable Diffusion
// Models with Transformers", 2022. SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

#define EPS 1e-6

void ref_norm_modulate(DEVICE, act *y, float *mean, float *rstd, const act *x, const act *shift,
                       const act *scale, size_t stride, size_t B, size_t T, size_t D)
{
    for (size_t r = 0; r < B * T; r++) {
        const act *in = x + r * D, *add = shift + r / T * stride, *mul = scale + r / T * stride;
        double m = 0, variance = 0;
        for (size_t d = 0; d < D; d++)
            m += in[d].v;
        m /= (double)D;
        for (size_t d = 0; d < D; d++)
            variance += (in[d].v - m) * (in[d].v - m);
        double s = 1 / sqrt(variance / (double)D + EPS);
        for (size_t d = 0; d < D; d++)
            y[r * D + d].v = (float)((in[d].v - m) * s * (1.0 + mul[d].v) + add[d].v);
        if (mean)
            mean[r] = (float)m;
        if (rstd)
            rstd[r] = (float)s;
    }
}

// With n = (x - mean) rstd and dn = dy (1 + scale):
//   dx = dsum + rstd (dn - <dn> - n <dn n>),  <> the mean over D;  dshift = sum dy, dscale = sum dy
//   n.
void ref_norm_modulate_backward(DEVICE, act *dx, act *dshift, act *dscale, const act *dy,
                                const act *dsum, const act *x, const float *mean, const float *rstd,
                                const act *scale, size_t stride, size_t B, size_t T, size_t D)
{
    for (size_t b = 0; b < B; b++) {
        for (size_t d = 0; d < D; d++) {
            double shift_sum = 0, scale_sum = 0;
            for (size_t r = b * T; r < (b + 1) * T; r++) {
                double n = ((double)x[r * D + d].v - mean[r]) * rstd[r];
                shift_sum += dy[r * D + d].v;
                scale_sum += dy[r * D + d].v * n;
            }
            dshift[b * stride + d].v = (float)shift_sum;
            dscale[b * stride + d].v = (float)scale_sum;
        }
    }
    for (size_t r = 0; r < B * T; r++) {
        const act *in = x + r * D, *din = dy + r * D, *mul = scale + r / T * stride;
        double dn_mean = 0, dn_n_mean = 0;
        for (size_t d = 0; d < D; d++) {
            double n = ((double)in[d].v - mean[r]) * rstd[r], dn = din[d].v * (1.0 + mul[d].v);
            dn_mean += dn / (double)D;
            dn_n_mean += dn * n / (double)D;
        }
        for (size_t d = 0; d < D; d++) {
            double n = ((double)in[d].v - mean[r]) * rstd[r], dn = din[d].v * (1.0 + mul[d].v);
            double through = rstd[r] * (dn - dn_mean - n * dn_n_mean);
            dx[r * D + d].v = (float)(through + (dsum ? dsum[r * D + d].v : 0));
        }
    }
}

void ref_gate_residual_norm_modulate(struct device *device, act *sum, act *y, float *mean,
                                     float *rstd, const act *x, const act *branch, const act *gate,
                                     const act *shift, const act *scale, size_t stride, size_t B,
                                     size_t T, size_t D)
{
    for (size_t r = 0; r < B * T; r++) {
        for (size_t d = 0; d < D; d++) {
            double gated = (double)gate[r / T * stride + d].v * branch[r * D + d].v;
            sum[r * D + d].v = (float)(x[r * D + d].v + gated);
        }
    }
    ref_norm_modulate(device, y, mean, rstd, sum, shift, scale, stride, B, T, D);
}

void ref_gate_residual_norm_modulate_backward(struct device *device, act *dx, act *dbranch,
                                              act *dgate, act *dshift, act *dscale, const act *dy,
                                              const act *dsum, const act *sum, const float *mean,
                                              const float *rstd, const act *branch, const act *gate,
                                              const act *scale, size_t stride, size_t B, size_t T,
                                              size_t D)
{
    ref_norm_modulate_backward(device, dx, dshift, dscale, dy, dsum, sum, mean, rstd, scale, stride,
                               B, T, D);
    for (size_t b = 0; b < B; b++) {
        for (size_t d = 0; d < D; d++) {
            double gate_sum = 0;
            for (size_t r = b * T; r < (b + 1) * T; r++) {
                gate_sum += (double)branch[r * D + d].v * dx[r * D + d].v;
                dbranch[r * D + d].v = gate[b * stride + d].v * dx[r * D + d].v;
            }
            dgate[b * stride + d].v = (float)gate_sum;
        }
    }
}
