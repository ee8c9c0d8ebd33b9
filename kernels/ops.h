// Declares the operations as functions, op_NAME(device, ...). kernels/ops.def lists and describes
// them. SPDX-License-Identifier: MIT
#ifndef DIT_OPS_H
#define DIT_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "lib/base/flow-path.h"

#ifdef __cplusplus
extern "C" {
#endif

// The coefficients of the loss at one sample's time t, in float32 (lib/model/diffusion.h and
// flow.h compute them). The last three rows are those of the variational bound, of diffusion
// alone; abar is the product of the alphas up to t.
struct diffusion_terms {
    float signal, noise;    // x_t = signal x0 + noise eps
    float out, data, eps;   // the residual is out f(x_t) - data x0 - eps eps, f the model
    float weight;           // of its square in the loss
    float x0_x, x0_eps;     // x0 = x0_x x_t - x0_eps eps: sqrt(1/abar), sqrt(1/abar - 1)
    float mean_x0, mean_x;  // posterior mean = mean_x0 x0 + mean_x x_t
    float log_max, log_min; // log beta_t, log of the posterior variance (clipped)
    int32_t first;          // t = 0, where the bound is that of the discretized Gaussian
};

enum flow_weight { FLOW_WEIGHT_NONE, FLOW_WEIGHT_VELOCITY, FLOW_WEIGHT_LIKELIHOOD };

// How flow matching draws its times, and the loss there (kernels/flow-terms.h).
struct flow_training {
    enum flow_path path;
    enum flow_prediction prediction;
    enum flow_weight weight; // of the loss of predicted noise or score
    bool reversed;           // the model sees 1 - t, and its output is negated
    double low, high;        // bounds of t
    bool logit_normal;       // t is the logistic function of N(mean, std), else uniform
    double mean, std;
};

#define SAMPLER_STATES 4 // the most arrays that a sampler keeps of its samples

// The coefficients of one step of a sampler (sample_step in kernels/ops.def): a matrix on its
// states and the model's output, and the standard deviation of the noise.
struct sampler_step {
    float state[SAMPLER_STATES][SAMPLER_STATES], out[SAMPLER_STATES];
    float sigma;            // 0: no noise
    bool learned;           // the model's output has the standard deviation, not sigma
    float log_max, log_min; // the bounds of its log variance
};

struct adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float max_norm; // the gradient's norm is clipped to this; 0 for no clipping
    double ema_decay;
    uint64_t step; // of this update, from 1
};

// How adaLN modulates a norm, and gates the residual branch that is added before it: (B) rows of D
// activations each, `stride` activations apart. The same struct holds their gradients.
struct modulation {
    act *shift, *scale;
    act *gate; // only for the operations with a gate
    size_t stride;
};

// The 3x3 convolutions of the autoencoder: how they change the size.
enum conv_kind {
    CONV_SAME, // stride 1, zeros on all sides: H' = H
    CONV_DOWN, // stride 2, zeros only below and to the right: H' = H / 2, H and W even
    CONV_UP,   // CONV_SAME of x after doubling its sides by nearest neighbours: H' = 2 H
};

// A convolution (conv2d_relu in kernels/ops.def) of x (B,H,W,I) to y (B,H',W',O):
// H' = (H + 2 pad_H - kernel_H) / stride + 1, and W' likewise.
struct conv2d {
    size_t H, W, I, O;
    size_t kernel_H, kernel_W, stride, pad_H, pad_W;
};
static inline size_t conv2d_out_H(const struct conv2d *p)
{
    return (p->H + 2 * p->pad_H - p->kernel_H) / p->stride + 1;
}
static inline size_t conv2d_out_W(const struct conv2d *p)
{
    return (p->W + 2 * p->pad_W - p->kernel_W) / p->stride + 1;
}

enum pool_kind { POOL_MAX, POOL_MEAN };
// The side of the output of pool3x3, from that of its input.
static inline size_t pool3x3_out(size_t side, size_t stride, size_t padding)
{
    return (side + 2 * padding - 3) / stride + 1;
}

// Each backend has its own functions: ref_NAME; avx2_f32_NAME, avx2_bf16_NAME and the like
// (Makefile), from the cpu backend's sources compiled for each instruction set and each type of
// activations; cuda_bf16_NAME and cuda_f32_NAME likewise.
#define OP(name, cpu, params, args) void ref_##name(struct device *device OP_PARAMS params);
#define OP_PARAMS(...)              , __VA_ARGS__
#include "kernels/ops.def"
#undef OP

struct op_table {
#define OP(name, cpu, params, args) void (*name)(struct device * device OP_PARAMS params);
#include "kernels/ops.def"
#undef OP
};

#define OP_ARGS(...) , __VA_ARGS__
#define OP(name, cpu, params, args)                                      \
    static inline void op_##name(struct device *device OP_PARAMS params) \
    {                                                                    \
        device->ops->name(device OP_ARGS args);                          \
    }
#include "kernels/ops.def"
#undef OP

extern const struct op_table ref_ops;
extern const struct backend ref_backend, generic_f32_backend, generic_bf16_backend;
#ifdef __x86_64__
extern const struct backend avx2_f32_backend, avx2_bf16_backend;
extern const struct backend avx512_f32_backend, avx512_bf16_backend, avx512bf16_bf16_backend;
#endif
// Only tests link these; elsewhere their addresses are NULL.
extern const struct backend lanes16_f32_backend __attribute__((weak));
extern const struct backend lanes16_bf16_backend __attribute__((weak));

#ifdef __cplusplus
}
#endif
#endif
