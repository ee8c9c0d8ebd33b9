// LayerNorm in plain C with adaptive shift, scale and gate: adaLN-Zero of Peebles and Xie,
// "Scalable
// Diffusion Models with Transformers", 2022. SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

#define EPS 1e-6

void ref_norm_modulate(DEVICE, act *y, float *mean, float *rstd, const act *x, struct modulation m,
                       size_t B, size_t T, size_t D)
{
    for (size_t r = 0; r < B * T; r++) {
        const act *in = x + r * D;
        const act *shift = m.shift + r / T * m.stride, *scale = m.scale + r / T * m.stride;
        double row_mean = 0, variance = 0;
        for (size_t d = 0; d < D; d++)
            row_mean += in[d].v;
        row_mean /= (double)D;
        for (size_t d = 0; d < D; d++)
            variance += (in[d].v - row_mean) * (in[d].v - row_mean);
        double row_rstd = 1 / sqrt(variance / (double)D + EPS);
        for (size_t d = 0; d < D; d++)
            y[r * D + d].v =
                (float)((in[d].v - row_mean) * row_rstd * (1.0 + scale[d].v) + shift[d].v);
        if (mean)
            mean[r] = (float)row_mean;
        if (rstd)
            rstd[r] = (float)row_rstd;
    }
}

// With n = (x - mean) rstd and dn = dy (1 + scale):
//   dx = dsum + rstd (dn - <dn> - n <dn n>),  <> the mean over D;
//   dshift = sum dy,  dscale = sum dy n.
void ref_norm_modulate_backward(DEVICE, act *dx, struct modulation dm, const act *dy,
                                const act *dsum, const act *x, const float *mean, const float *rstd,
                                struct modulation m, size_t B, size_t T, size_t D)
{
    for (size_t b = 0; b < B; b++) {
        for (size_t d = 0; d < D; d++) {
            double shift_sum = 0, scale_sum = 0;
            for (size_t r = b * T; r < (b + 1) * T; r++) {
                double n = ((double)x[r * D + d].v - mean[r]) * rstd[r];
                shift_sum += dy[r * D + d].v;
                scale_sum += dy[r * D + d].v * n;
            }
            dm.shift[b * dm.stride + d].v = (float)shift_sum;
            dm.scale[b * dm.stride + d].v = (float)scale_sum;
        }
    }
    for (size_t r = 0; r < B * T; r++) {
        const act *in = x + r * D, *din = dy + r * D, *scale = m.scale + r / T * m.stride;
        double dn_mean = 0, dn_n_mean = 0;
        for (size_t d = 0; d < D; d++) {
            double n = ((double)in[d].v - mean[r]) * rstd[r], dn = din[d].v * (1.0 + scale[d].v);
            dn_mean += dn / (double)D;
            dn_n_mean += dn * n / (double)D;
        }
        for (size_t d = 0; d < D; d++) {
            double n = ((double)in[d].v - mean[r]) * rstd[r], dn = din[d].v * (1.0 + scale[d].v);
            double through = rstd[r] * (dn - dn_mean - n * dn_n_mean);
            dx[r * D + d].v = (float)(through + (dsum ? dsum[r * D + d].v : 0));
        }
    }
}

void ref_gate_residual_norm_modulate(struct device *device, act *sum, act *y, float *mean,
                                     float *rstd, const act *x, const act *branch,
                                     struct modulation m, size_t B, size_t T, size_t D)
{
    for (size_t r = 0; r < B * T; r++) {
        for (size_t d = 0; d < D; d++) {
            double gated = (double)m.gate[r / T * m.stride + d].v * branch[r * D + d].v;
            sum[r * D + d].v = (float)(x[r * D + d].v + gated);
        }
    }
    ref_norm_modulate(device, y, mean, rstd, sum, m, B, T, D);
}

void ref_gate_residual_norm_modulate_backward(struct device *device, act *dx, act *dbranch,
                                              struct modulation dm, const act *dy, const act *dsum,
                                              const act *sum, const float *mean, const float *rstd,
                                              const act *branch, struct modulation m, size_t B,
                                              size_t T, size_t D)
{
    ref_norm_modulate_backward(device, dx, dm, dy, dsum, sum, mean, rstd, m, B, T, D);
    for (size_t b = 0; b < B; b++) {
        for (size_t d = 0; d < D; d++) {
            double gate_sum = 0;
            for (size_t r = b * T; r < (b + 1) * T; r++) {
                gate_sum += (double)branch[r * D + d].v * dx[r * D + d].v;
                dbranch[r * D + d].v = m.gate[b * m.stride + d].v * dx[r * D + d].v;
            }
            dm.gate[b * dm.stride + d].v = (float)gate_sum;
        }
    }
}
