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
static __device__ NOINLINE struct bound discretized_nll(double x, double mean, double logvar)
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
                          float grad_scale, size_t stride, size_t n)
{
    const size_t b = blockIdx.x;
    const struct diffusion_terms t = terms[b];
    const float span = t.log_max - t.log_min, scale = grad_scale / static_cast<float>(n);
    const float nats = 1.44269504f /* 1 / ln 2 */, dv_scale = scale * nats * 0.5f * span;
    const float precision = expf(-t.log_min) * t.mean_x0 * t.mean_x0;
    const float dout_scale = 2 * scale * t.weight * t.out;
    float mse_sum = 0, vb_sum = 0;
    for (size_t i = threadIdx.x * WIDTH; i < n; i += THREADS * WIDTH) {
        float predicted[WIDTH], truth[WIDTH], e[WIDTH];
        load(predicted, out + b * stride + i);
        load(truth, x0 + b * n + i);
        load(e, noise + b * n + i);
        if (vb) {
            float v[WIDTH], x[WIDTH];
            load(v, out + b * stride + n + i);
            load(x, xt + b * n + i);
            for (int k = 0; k < WIDTH; k++) {
                const float eps = predicted[k], fraction = 0.5f * (v[k] + 1);
                struct bound bound;
                if (t.first) {
                    const double x0_model =
                        static_cast<double>(t.x0_x) * x[k] - static_cast<double>(t.x0_eps) * eps;
                    const double mean = t.mean_x0 * x0_model + static_cast<double>(t.mean_x) * x[k];
                    bound = discretized_nll(truth[k], mean, t.log_min + fraction * span);
                } else {
                    const float error = truth[k] - (t.x0_x * x[k] - t.x0_eps * eps);
                    bound = normal_kl(error * error * precision, -fraction * span);
                }
                vb_sum += bound.value;
                v[k] = dv_scale * bound.dlogvar;
            }
            if (dout)
                store(dout + b * stride + n + i, v);
        }
        for (int k = 0; k < WIDTH; k++) {
            const float residual = t.out * predicted[k] - t.data * truth[k] - t.eps * e[k];
            mse_sum += residual * residual;
            predicted[k] = dout_scale * residual;
        }
        if (dout)
            store(dout + b * stride + i, predicted);
    }
    if (dout && !vb)
        for (size_t i = n + threadIdx.x; i < stride; i += THREADS)
            dout[b * stride + i] = 0;
    mse_sum = block_sum(mse_sum);
    vb_sum = block_sum(vb_sum);
    if (threadIdx.x == 0) {
        mse[b] = t.weight * mse_sum / static_cast<float>(n);
        if (vb)
            vb[b] = vb_sum * nats / static_cast<float>(n);
    }
}

void CUDA_FN(diffusion_loss)(struct device *device, float *mse, float *vb, float *dout,
                             const float *out, const float *x0, const float *xt, const float *noise,
                             const struct diffusion_terms *terms, float grad_scale, size_t stride,
                             size_t B, size_t n)
{
    if (B == 0)
        return;
    const bool wide = can_be_wide(n, 4, dout, out, x0, xt, noise) && stride % 4 == 0;
    const auto diffusion_loss = wide ? diffusion_loss_kernel<4> : diffusion_loss_kernel<1>;
    RUN_KERNEL(device, diffusion_loss, static_cast<unsigned>(B), THREADS, 0, mse, vb, dout, out, x0,
               xt, noise, terms, grad_scale, stride, n);
}

// Both halves have B rows, `stride` floats apart, of which the first n are guided.
template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    guide_kernel(float *rows, const float *away, float scale, size_t stride, size_t B, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        float c[WIDTH], u[WIDTH];
        load(c, rows + b * stride + i);
        load(u, away + b * stride + i);
        for (int k = 0; k < WIDTH; k++)
            c[k] = u[k] + scale * (c[k] - u[k]);
        store(rows + b * stride + i, c);
    }
}

// With rescaling a block takes a row, which it reads four times: means, deviations, the result.
// Each thread comes back to the elements that it wrote.
static __global__ void __launch_bounds__(THREADS)
    guide_rescale_kernel(float *rows, const float *away, float scale, float rescale, size_t guided,
                         size_t stride, size_t n)
{
    float *row = rows + blockIdx.x * stride;
    const float *from = away + blockIdx.x * stride;
    float sum = 0, guided_sum = 0, square = 0, guided_square = 0;
    for (size_t i = threadIdx.x; i < n; i += THREADS) {
        sum += row[i];
        guided_sum += i < guided ? from[i] + scale * (row[i] - from[i]) : row[i];
    }
    const float mean = block_sum(sum) / static_cast<float>(n);
    const float guided_mean = block_sum(guided_sum) / static_cast<float>(n);
    for (size_t i = threadIdx.x; i < n; i += THREADS) {
        const float before = row[i],
                    after = i < guided ? from[i] + scale * (before - from[i]) : before;
        square += (before - mean) * (before - mean);
        guided_square += (after - guided_mean) * (after - guided_mean);
        row[i] = after;
    }
    square = block_sum(square);
    guided_square = block_sum(guided_square);
    const float factor =
        guided_square > 0 ? rescale * sqrtf(square / guided_square) + 1 - rescale : 1;
    for (size_t i = threadIdx.x; i < n; i += THREADS)
        row[i] *= factor;
}

void CUDA_FN(guide)(struct device *device, float *out, float scale, float rescale, size_t guided,
                    size_t stride, size_t B, size_t C, size_t n)
{
    if (B == 0 || C * n == 0)
        return;
    const float *away = out + B * stride;
    if (rescale > 0) {
        RUN_KERNEL(device, guide_rescale_kernel, static_cast<unsigned>(B), THREADS, 0, out, away,
                   scale, rescale, guided * n, stride, C * n);
        return;
    }
    if (guided == 0)
        return;
    const bool wide = can_be_wide(stride, 4, out, away) && can_be_wide(guided * n, 4, out);
    const auto guide = wide ? guide_kernel<4> : guide_kernel<1>;
    RUN_KERNEL(device, guide, sample_grid(B, guided * n, wide ? 4 : 1), THREADS, 0, out, away,
               scale, stride, B, guided * n);
}

// Reads the variance only if it is learned, and noise only if there is some.
template <int WIDTH, int K>
static __global__ void __launch_bounds__(THREADS)
    sample_step_kernel(float *states, const float *out, const float *noise, struct sampler_step p,
                       size_t stride, size_t B, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        float now[K][WIDTH], next[K][WIDTH], predicted[WIDTH] = {};
        for (int k = 0; k < K; k++)
            load(now[k], states + (k * B + b) * n + i);
        if (out)
            load(predicted, out + b * stride + i);
        for (int k = 0; k < K; k++)
            for (int w = 0; w < WIDTH; w++) {
                next[k][w] = p.out[k] * predicted[w];
                for (int j = 0; j < K; j++)
                    next[k][w] += p.state[k][j] * now[j][w];
            }
        if (p.learned || p.sigma > 0) {
            float std[WIDTH], e[WIDTH];
            for (int w = 0; w < WIDTH; w++)
                std[w] = p.sigma;
            if (p.learned) {
                load(std, out + b * stride + n + i);
                for (int w = 0; w < WIDTH; w++) {
                    const float f = 0.5f * (std[w] + 1);
                    std[w] = expf(0.5f * (f * p.log_max + (1 - f) * p.log_min));
                }
            }
            load(e, noise + b * n + i);
            for (int w = 0; w < WIDTH; w++)
                next[0][w] += std[w] * e[w];
        }
        for (int k = 0; k < K; k++)
            store(states + (k * B + b) * n + i, next[k]);
    }
}

template <int K>
static void sample_step_of(struct device *device, float *states, const float *out,
                           const float *noise, const struct sampler_step *p, size_t stride,
                           size_t B, size_t n)
{
    const bool wide = can_be_wide(n, 4, states, out, noise) && stride % 4 == 0;
    const auto sample_step = wide ? sample_step_kernel<4, K> : sample_step_kernel<1, K>;
    RUN_KERNEL(device, sample_step, sample_grid(B, n, wide ? 4 : 1), THREADS, 0, states, out, noise,
               *p, stride, B, n);
}

void CUDA_FN(sample_step)(struct device *device, float *states, const float *out,
                          const float *noise, const struct sampler_step *p, size_t K, size_t stride,
                          size_t B, size_t n)
{
    if (B == 0 || n == 0)
        return;
    const auto step = K == 1   ? sample_step_of<1>
                      : K == 2 ? sample_step_of<2>
                      : K == 3 ? sample_step_of<3>
                               : sample_step_of<4>;
    step(device, states, out, noise, p, stride, B, n);
}
