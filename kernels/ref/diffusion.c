// Diffusion in plain C: noise, the training loss, guidance and the step of the sampler.
// SPDX-License-Identifier: MIT
//
// Ho et al., "Denoising diffusion probabilistic models", 2020; Nichol and Dhariwal, "Improved
// denoising diffusion probabilistic models", 2021.
#include <math.h>

#include "kernels/flow-terms.h"
#include "kernels/host-act.h"

void ref_fill_normal(DEVICE, float *x, uint64_t seed, uint32_t purpose, uint32_t step,
                     uint64_t first, size_t B, size_t n)
{
    for (size_t b = 0; b < B; b++) {
        for (size_t i = 0; i < n; i++) {
            uint32_t words[4];
            philox_block(seed, purpose, step, first + b, (uint32_t)(i / 4), words);
            const uint32_t *pair = words + (i & 2);
            double r = sqrt(-2 * log(philox_uniform(pair[0])));
            double angle = 2 * M_PI * philox_uniform(pair[1]);
            x[b * n + i] = (float)(r * (i & 1 ? sin(angle) : cos(angle)));
        }
    }
}

void ref_draw_times(DEVICE, float *t, struct diffusion_terms *terms,
                    const struct diffusion_terms *table, size_t steps, uint64_t seed,
                    uint32_t purpose, uint32_t step, uint64_t first, size_t B)
{
    for (size_t b = 0; b < B; b++) {
        uint64_t at = philox_below(seed, purpose, step, first + b, steps);
        t[b] = (float)at;
        terms[b] = table[at];
    }
}

void ref_draw_flow_times(DEVICE, float *t, struct diffusion_terms *terms,
                         const struct flow_training *flow, uint64_t seed, uint32_t purpose,
                         uint32_t step, uint64_t first, size_t B)
{
    for (size_t b = 0; b < B; b++) {
        uint32_t words[4];
        philox_block(seed, purpose, step, first + b, 0, words);
        float time = flow_draw_time(flow, words);
        t[b] = flow_model_time(flow, time);
        terms[b] = flow_terms(flow, time);
    }
}

void ref_drop_labels(DEVICE, int32_t *labels, const int32_t *given, int32_t null_class, double rate,
                     uint64_t seed, uint32_t purpose, uint32_t step, uint64_t first, size_t B)
{
    for (size_t b = 0; b < B; b++) {
        uint32_t words[4];
        philox_block(seed, purpose, step, first + b, 0, words);
        labels[b] = given[b] < 0 || philox_uniform(words[0]) < rate ? null_class : given[b];
    }
}

void ref_latent_draw(DEVICE, float *x, const float *mean, const float *std, const float *noise,
                     size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(mean[i] + (double)std[i] * noise[i]);
}

void ref_diffuse(DEVICE, float *xt, const float *x0, const float *noise,
                 const struct diffusion_terms *terms, size_t B, size_t n)
{
    for (size_t i = 0; i < B * n; i++) {
        const struct diffusion_terms *t = terms + i / n;
        xt[i] = (float)((double)t->signal * x0[i] + (double)t->noise * noise[i]);
    }
}

// The normal cumulative distribution function, approximated by tanh, and its derivative.
static double normal_cdf(double u, double *derivative)
{
    const double a = sqrt(2 / M_PI), b = 0.044715;
    double t = tanh(a * (u + b * u * u * u));
    *derivative = 0.5 * (1 - t * t) * a * (1 + 3 * b * u * u);
    return 0.5 * (1 + t);
}

// The variational bound of one element, in nats, and its derivative with respect to the log
// variance.
struct element_bound {
    double value, dlogvar;
};

// The KL divergence of the true posterior from the model's; `error` is the difference of their
// means.
static struct element_bound normal_kl(double error, double true_logvar, double logvar)
{
    double ratio = exp(true_logvar - logvar), square = error * error * exp(-logvar);
    return (struct element_bound){0.5 * (-1 + logvar - true_logvar + ratio + square),
                                  0.5 * (1 - ratio - square)};
}

// -log of the probability of x's bin, of width 2/255, under N(mean, exp(logvar)); the bins at the
// ends reach to infinity.
static struct element_bound discretized_nll(double x, double mean, double logvar)
{
    double inverse_std = exp(-0.5 * logvar), plus_pdf, minus_pdf;
    double plus = inverse_std * (x - mean + 1.0 / 255),
           minus = inverse_std * (x - mean - 1.0 / 255);
    double plus_cdf = normal_cdf(plus, &plus_pdf), minus_cdf = normal_cdf(minus, &minus_pdf);
    // d plus / d logvar = -plus / 2, and the same holds for minus.
    double p, dp;
    if (x < -0.999)
        p = plus_cdf, dp = -0.5 * plus * plus_pdf;
    else if (x > 0.999)
        p = 1 - minus_cdf, dp = 0.5 * minus * minus_pdf;
    else
        p = plus_cdf - minus_cdf, dp = 0.5 * (minus * minus_pdf - plus * plus_pdf);
    if (p < 1e-12)
        return (struct element_bound){-log(1e-12), 0};
    return (struct element_bound){-log(p), -dp / p};
}

void ref_diffusion_loss(DEVICE, float *mse, float *vb, float *dout, const float *out,
                        const float *x0, const float *xt, const float *noise,
                        const struct diffusion_terms *terms, float grad_scale, size_t stride,
                        size_t B, size_t n)
{
    for (size_t b = 0; b < B; b++) {
        const struct diffusion_terms *t = terms + b;
        const float *row = out + b * stride;
        float *drow = dout ? dout + b * stride : NULL;
        double mse_sum = 0, vb_sum = 0, scale = grad_scale / (double)n;
        for (size_t i = 0; i < n; i++) {
            double truth = x0[b * n + i], prediction = row[i];
            double residual = t->out * prediction - t->data * truth - t->eps * noise[b * n + i];
            mse_sum += t->weight * residual * residual;
            if (drow)
                drow[i] = (float)(scale * 2 * t->weight * t->out * residual);
        }
        mse[b] = (float)(mse_sum / (double)n);
        for (size_t i = n; drow && i < stride; i++)
            drow[i] = 0;
        for (size_t i = 0; vb && i < n; i++) {
            double eps = row[i], v = row[n + i], x = xt[b * n + i], truth = x0[b * n + i];
            double fraction = (v + 1) / 2;
            double logvar = fraction * t->log_max + (1 - fraction) * t->log_min;
            double x0_model = t->x0_x * x - t->x0_eps * eps;
            struct element_bound bound =
                t->first ? discretized_nll(truth, t->mean_x0 * x0_model + t->mean_x * x, logvar)
                         : normal_kl(t->mean_x0 * (truth - x0_model), t->log_min, logvar);
            vb_sum += bound.value;
            if (drow) {
                double dlogvar_dv = 0.5 * ((double)t->log_max - t->log_min);
                drow[n + i] = (float)(scale / M_LN2 * bound.dlogvar * dlogvar_dv);
            }
        }
        if (vb)
            vb[b] = (float)(vb_sum / (double)n / M_LN2);
    }
}

static double standard_deviation(const float *x, size_t n)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean) / (double)n;
    return sqrt(square);
}

void ref_guide(DEVICE, float *out, float scale, float rescale, size_t guided, size_t stride,
               size_t B, size_t C, size_t n)
{
    for (size_t b = 0; b < B; b++) {
        float *row = out + b * stride;
        const float *away = out + (B + b) * stride;
        double before = rescale > 0 ? standard_deviation(row, C * n) : 0;
        for (size_t i = 0; i < guided * n; i++)
            row[i] = (float)(away[i] + scale * ((double)row[i] - away[i]));
        if (rescale > 0) {
            double after = standard_deviation(row, C * n);
            double factor = after > 0 ? rescale * before / after + 1 - rescale : 1;
            for (size_t i = 0; i < C * n; i++)
                row[i] = (float)(factor * row[i]);
        }
    }
}

void ref_sample_step(DEVICE, float *states, const float *out, const float *noise,
                     const struct sampler_step *p, size_t K, size_t stride, size_t B, size_t n)
{
    for (size_t i = 0; i < B * n; i++) {
        const float *predicted = out ? out + i / n * stride + i % n : NULL;
        double next[SAMPLER_STATES];
        for (size_t k = 0; k < K; k++) {
            next[k] = predicted ? (double)p->out[k] * *predicted : 0;
            for (size_t j = 0; j < K; j++)
                next[k] += (double)p->state[k][j] * states[j * B * n + i];
        }
        double fraction = p->learned ? (predicted[n] + 1.0) / 2 : 0;
        double logvar = fraction * p->log_max + (1 - fraction) * p->log_min;
        double std = p->learned ? exp(0.5 * logvar) : p->sigma;
        if (std > 0)
            next[0] += std * noise[i];
        for (size_t k = 0; k < K; k++)
            states[k * B * n + i] = (float)next[k];
    }
}
