// Replaces cuBLASLt in the simulator: implements kernels/cuda/gemm.h by a plain kernel with a
// thread for each element of C.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/gemm.h"

#include <stdlib.h>

#include "kernels/cuda/gelu.h"

struct gemm_context {
    int nothing;
};

struct gemm_context *gemm_new(struct device *, char *)
{
    return static_cast<struct gemm_context *>(calloc(1, sizeof(struct gemm_context)));
}

void gemm_free(struct gemm_context *context)
{
    free(context);
}

static float load(const void *from, int bits, size_t i)
{
    if (bits == 16)
        return static_cast<float>(static_cast<const __nv_bfloat16 *>(from)[i]);
    return static_cast<const float *>(from)[i];
}

static void store(void *to, int bits, size_t i, float x)
{
    if (bits == 16)
        static_cast<__nv_bfloat16 *>(to)[i] = static_cast<__nv_bfloat16>(x);
    else
        static_cast<float *>(to)[i] = x;
}

static float rounded(float x, bool tf32)
{
    return tf32 ? __uint_as_float(to_tf32(x)) : x;
}

static __global__ void multiply(struct gemm g, bool tf32)
{
    const size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    const size_t i = at / g.N, j = at % g.N, c = i * g.c_row + j;
    if (i >= g.M)
        return;
    float sum = 0;
    for (size_t k = 0; k < g.K; k++) {
        const float a = load(g.a, g.bits, g.a_transposed ? k * g.a_row + i : i * g.a_row + k);
        const float b = load(g.b, g.bits, g.b_transposed ? j * g.b_row + k : k * g.b_row + j);
        sum += rounded(a, tf32) * rounded(b, tf32);
    }
    const int c_bits = g.c_float ? 32 : g.bits;
    if (g.accumulate)
        sum += load(g.c, c_bits, c);
    if (g.bias)
        sum += load(g.bias, g.bits, j);
    if (g.epilogue == GEMM_BIAS_GELU) {
        if (g.aux)
            store(g.aux, g.bits, c, sum);
        sum = gelu(sum);
    } else if (g.epilogue == GEMM_DGELU) {
        sum *= gelu_derivative(load(g.aux, g.bits, c));
    }
    store(g.c, c_bits, c, sum);
}

void gemm_run(struct device *device, const struct gemm *gemm)
{
    if (gemm->M && gemm->N)
        RUN_KERNEL(device, multiply, blocks_for(gemm->M * gemm->N, 128), 128, 0, *gemm,
                   gemm->bits == 32 && cuda_state(device)->tf32);
}
