// Diffusion: noise, the training loss and its gradient, guidance, the sampler's step.
// SPDX-License-Identifier: MIT
//
// Latents are float32 and small (4 MB for 256 samples of 4 x 32 x 32). Each operation reads and
// writes its arrays once, 16 bytes for each thread, with samples along the grid's y. The loss has a
// block for each sample, which adds in a fixed order. Formulas: kernels/ref/diffusion.c.
#include "kernels/cuda/vector.h"

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    diffuse_kernel(float *xt, const float *x0, const float *noise,
                   const struct diffusion_terms *terms, size_t B, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        const float signal = terms[b].signal, spread = terms[b].noise;
        float v[WIDTH], e[WIDTH];
        load(v, x0 + b * n + i);
        load(e, noise + b * n + i);
        for (int k = 0; k < WIDTH; k++)
            v[k] = signal * v[k] + spread * e[k];
        store(xt + b * n + i, v);
    }
}

void CUDA_FN(diffuse)(struct device *device, float *xt, const float *x0, const float *noise,
                      const struct diffusion_terms *terms, size_t B, size_t n)
{
    if (B == 0 || n == 0)
        return;
    const bool wide = can_be_wide(n, 4, xt, x0, noise);
    const auto diffuse = wide ? diffuse_kernel<4> : diffuse_kernel<1>;
    RUN_KERNEL(device, diffuse, sample_grid(B, n, wide ? 4 : 1), THREADS, 0, xt, x0, noise, terms,
               B, n);
}

// The cumulative distribution function of the normal distribution, by tanh, and its derivative.
static __device__ __forceinline__ double normal_cdf(double u, double *derivative)
{
    const double a = 0.79788456080286536 /* sqrt(2 / pi) */, b = 0.044715;
    const double t = tanh(a * (u + b * u * u * u));
    *derivative = 0.5 * (1 - t * t) * a * (1 + 3 * b * u * u);
    return 0.5 * (1 + t);
}

// The bound of one element in nats, and its derivative by the log variance.
struct bound {
    float value, dlogvar;
};

// -log of the probability of x's bin of width 2/255 under N(mean, exp(logvar)). This is the
// difference of two nearly equal numbers, hence double; only one sample in a thousand (t = 0) takes
// this path.
static __device__ __noinline__ struct bound discretized_nll(double x, double mean, double logvar)
{
    const double inverse_std = exp(-0.5 * logvar);
    const double plus = inverse_std * (x - mean + 1.0 / 255);
    const double minus = inverse_std * (x - mean - 1.0 / 255);
    double plus_derivative, minus_derivative;
    const double plus_cdf = normal_cdf(plus, &plus_derivative);
    const double minus_cdf = normal_cdf(minus, &minus_derivative);
    // d plus / d logvar = -plus / 2, and likewise for minus.
    double p, dp;
    if (x < -0.999)
        p = plus_cdf, dp = -0.5 * plus * plus_derivative;
    else if (x > 0.999)
        p = 1 - minus_cdf, dp = 0.5 * minus * minus_derivative;
    else
        p = plus_cdf - minus_cdf, dp = 0.5 * (minus * minus_derivative - plus * plus_derivative);
    if (p < 1e-12)
        return {27.6310211159285f /* -log(1e-12) */, 0};
    return {static_cast<float>(-log(p)), static_cast<float>(-dp / p)};
}

// e^d - 1 - d, without cancellation for small d.
static __device__ __forceinline__ float exp_beyond_line(float d)
{
    // Taylor's series to d^8; at |d| = 0.4 its relative error is below 1e-8.
    float p = fmaf(d, 1.0f / 40320, 1.0f / 5040);
    p = fmaf(p, d, 1.0f / 720);
    p = fmaf(p, d, 1.0f / 120);
    p = fmaf(p, d, 1.0f / 24);
    p = fmaf(p, d, 1.0f / 6);
    p = fmaf(p, d, 0.5f);
    return d * d < 0.16f ? p * d * d : expf(d) - 1 - d;
}

// The KL divergence of the true posterior from the model's. d is the true log variance less the
// model's; square is the squared difference of the means over the true variance.
static __device__ __forceinline__ struct bound normal_kl(float square, float d)
{
    const float beyond = exp_beyond_line(d), far = square * expf(d);
    return {0.5f * (beyond + far), -0.5f * (beyond + d + far)};
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    diffusion_loss_kernel(float *mse, float *vb, float *dout, const float *out, const float *x0,
                          const float *xt, const float *noise, const struct diffusion_terms *terms,
                          float grad_scale, size_t n)
{
    const size_t b = blockIdx.x;
    const struct diffusion_terms t = terms[b];
    const float span = t.log_max - t.log_min, scale = grad_scale / static_cast<float>(n);
    const float nats = 1.44269504f /* 1 / ln 2 */, dv_scale = scale * nats * 0.5f * span;
    const float precision = expf(-t.log_min) * t.mean_x0 * t.mean_x0;
    float mse_sum = 0, vb_sum = 0;
    for (size_t i = threadIdx.x * WIDTH; i < n; i += THREADS * WIDTH) {
        float eps[WIDTH], v[WIDTH], truth[WIDTH], x[WIDTH], e[WIDTH];
        load(eps, out + 2 * b * n + i);
        load(v, out + (2 * b + 1) * n + i);
        load(truth, x0 + b * n + i);
        load(x, xt + b * n + i);
        load(e, noise + b * n + i);
        for (int k = 0; k < WIDTH; k++) {
            const float miss = eps[k] - e[k], fraction = 0.5f * (v[k] + 1);
            struct bound bound;
            if (t.first) {
                const double x0_model =
                    static_cast<double>(t.x0_x) * x[k] - static_cast<double>(t.x0_eps) * eps[k];
                const double mean = t.mean_x0 * x0_model + static_cast<double>(t.mean_x) * x[k];
                bound = discretized_nll(truth[k], mean, t.log_min + fraction * span);
            } else {
                const float error = truth[k] - (t.x0_x * x[k] - t.x0_eps * eps[k]);
                bound = normal_kl(error * error * precision, -fraction * span);
            }
            mse_sum += miss * miss;
            vb_sum += bound.value;
            eps[k] = 2 * scale * miss;
            v[k] = dv_scale * bound.dlogvar;
        }
        if (dout) {
            store(dout + 2 * b * n + i, eps);
            store(dout + (2 * b + 1) * n + i, v);
        }
    }
    mse_sum = block_sum(mse_sum);
    vb_sum = block_sum(vb_sum);
    if (threadIdx.x == 0) {
        mse[b] = mse_sum / static_cast<float>(n);
        vb[b] = vb_sum * nats / static_cast<float>(n);
    }
}

void CUDA_FN(diffusion_loss)(struct device *device, float *mse, float *vb, float *dout,
                             const float *out, const float *x0, const float *xt, const float *noise,
                             const struct diffusion_terms *terms, float grad_scale, size_t B,
                             size_t n)
{
    if (B == 0)
        return;
    const auto diffusion_loss = can_be_wide(n, 4, dout, out, x0, xt, noise)
                                    ? diffusion_loss_kernel<4>
                                    : diffusion_loss_kernel<1>;
    RUN_KERNEL(device, diffusion_loss, static_cast<unsigned>(B), THREADS, 0, mse, vb, dout, out, x0,
               xt, noise, terms, grad_scale, n);
}

// cond and uncond hold samples of `size` elements, of which the first n are guided.
template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    guide_kernel(float *cond, const float *uncond, float scale, size_t B, size_t size, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        float c[WIDTH], u[WIDTH];
        load(c, cond + b * size + i);
        load(u, uncond + b * size + i);
        for (int k = 0; k < WIDTH; k++)
            c[k] = u[k] + scale * (c[k] - u[k]);
        store(cond + b * size + i, c);
    }
}

void CUDA_FN(guide)(struct device *device, float *out, float scale, size_t guided, size_t B,
                    size_t C, size_t n)
{
    if (B == 0 || guided * n == 0)
        return;
    const size_t size = 2 * C * n;
    const float *uncond = out + B * size;
    const bool wide = can_be_wide(size, 4, out, uncond) && can_be_wide(guided * n, 4, out);
    const auto guide = wide ? guide_kernel<4> : guide_kernel<1>;
    RUN_KERNEL(device, guide, sample_grid(B, guided * n, wide ? 4 : 1), THREADS, 0, out, uncond,
               scale, B, size, guided * n);
}

// Reads the variance only if it is learned, and no noise in the last step.
template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    sample_step_kernel(float *x, const float *out, const float *noise, struct sampler_step p,
                       size_t B, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        float now[WIDTH], eps[WIDTH], std[WIDTH], e[WIDTH];
        load(now, x + b * n + i);
        load(eps, out + 2 * b * n + i);
        for (int k = 0; k < WIDTH; k++) {
            const float x0 = p.x0_x * now[k] - p.x0_eps * eps[k];
            now[k] = p.mean_x0 * x0 + p.mean_x * now[k] + p.mean_eps * eps[k];
            std[k] = p.sigma;
        }
        if (!p.last) {
            if (p.learned) {
                load(std, out + (2 * b + 1) * n + i);
                for (int k = 0; k < WIDTH; k++) {
                    const float f = 0.5f * (std[k] + 1);
                    std[k] = expf(0.5f * (f * p.log_max + (1 - f) * p.log_min));
                }
            }
            load(e, noise + b * n + i);
            for (int k = 0; k < WIDTH; k++)
                now[k] += std[k] * e[k];
        }
        store(x + b * n + i, now);
    }
}

void CUDA_FN(sample_step)(struct device *device, float *x, const float *out, const float *noise,
                          const struct sampler_step *p, size_t B, size_t n)
{
    if (B == 0 || n == 0)
        return;
    const bool wide = can_be_wide(n, 4, x, out, noise);
    const auto sample_step = wide ? sample_step_kernel<4> : sample_step_kernel<1>;
    RUN_KERNEL(device, sample_step, sample_grid(B, n, wide ? 4 : 1), THREADS, 0, x, out, noise, *p,
               B, n);
}
