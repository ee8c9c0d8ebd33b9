// The training loss of DiT and its gradient. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

// e^d - 1 - d, without cancellation for small d.
INLINE float exp_minus_line(float d)
{
    const float direct = simd_exp(d) - 1 - d;
    // The Taylor series to d^8, for |d| < 0.4: the relative error of its truncation is below 1e-7.
    float p = multiply_add(d, 1.0f / 40320, 1.0f / 5040);
    p = multiply_add(p, d, 1.0f / 720);
    p = multiply_add(p, d, 1.0f / 120);
    p = multiply_add(p, d, 1.0f / 24);
    p = multiply_add(p, d, 1.0f / 6);
    p = multiply_add(p, d, 0.5f);
    return d * d < 0.16f ? p * d * d : direct;
}

// The bound of one sample with t > 0, which is the KL divergence of two normal distributions. The
// model's log variance is log_min + f span, so the ratio of the variances is e^d with d = -f span.
static float bound_of_sample(float *dv, const float *out, const float *x0, const float *xt,
                             const struct diffusion_terms *terms, float grad_scale, size_t n)
{
    const struct diffusion_terms t = *terms;
    const float span = t.log_max - t.log_min;
    const float precision = (float)exp(-(double)t.log_min) * t.mean_x0 * t.mean_x0;
    const float dv_scale = (float)(grad_scale / (double)n / M_LN2 * 0.5 * span);
    const float *eps = out, *v = out + n;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float d = -0.5f * (v[i] + 1) * span;
        float x0_error = x0[i] - (t.x0_x * xt[i] - t.x0_eps * eps[i]);
        float exp_rest = exp_minus_line(d), square = x0_error * x0_error * precision * simd_exp(d);
        sum += (double)(0.5f * (exp_rest + square));
        if (dv)
            dv[i] = -0.5f * dv_scale * (exp_rest + d + square);
    }
    return (float)(sum / (double)n / M_LN2);
}

static float mse_of_sample(float *dout, const float *out, const float *x0, const float *noise,
                           const struct diffusion_terms *terms, float grad_scale, size_t n)
{
    const struct diffusion_terms t = *terms;
    const float dout_scale = (float)(2.0 * grad_scale / (double)n * t.weight * t.out);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float residual = t.out * out[i] - t.data * x0[i] - t.eps * noise[i];
        sum += (double)(residual * residual);
        if (dout)
            dout[i] = dout_scale * residual;
    }
    return (float)(sum * t.weight / (double)n);
}

struct loss {
    float *mse, *vb, *dout;
    const float *out, *x0, *xt, *noise;
    const struct diffusion_terms *terms;
    float grad_scale;
    size_t stride, n;
};

static void find_losses(const void *context, struct team_range range)
{
    const struct loss *p = context;
    const size_t n = p->n, stride = p->stride;
    const float scale = p->grad_scale;
    for (size_t b = range.first; b < range.end; b++) {
        const struct diffusion_terms *terms = p->terms + b;
        const float *row = p->out + b * stride, *x0 = p->x0 + b * n, *xt = p->xt + b * n;
        const float *noise = p->noise + b * n;
        float *to = p->dout ? p->dout + b * stride : NULL;
        // At t = 0, one sample in a thousand, the discretized Gaussian needs ref's double
        // precision.
        if (p->vb && terms->first) {
            ref_diffusion_loss(NULL, p->mse + b, p->vb + b, to, row, x0, xt, noise, terms, scale,
                               stride, 1, n);
            continue;
        }
        p->mse[b] = mse_of_sample(to, row, x0, noise, terms, scale, n);
        if (p->vb)
            p->vb[b] = bound_of_sample(to ? to + n : NULL, row, x0, xt, terms, scale, n);
        else if (to)
            memset(to + n, 0, (stride - n) * sizeof *to);
    }
}

void ISA_FN(diffusion_loss)(struct device *device, float *mse, float *vb, float *dout,
                            const float *out, const float *x0, const float *xt, const float *noise,
                            const struct diffusion_terms *terms, float grad_scale, size_t stride,
                            size_t B, size_t n)
{
    const struct loss p = {mse, vb, dout, out, x0, xt, noise, terms, grad_scale, stride, n};
    team_for(team_of(device, 4 * B * n), B, 1, find_losses, &p);
}
