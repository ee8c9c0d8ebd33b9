// The epilogues of products as kernels of their own, where cuBLASLt has none for a shape, is less
// exact or slower. SPDX-License-Identifier: MIT
#include "kernels/cuda/gelu.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/vector.h"

// One row of the block's columns at a time. GELU is taken of the rounded input, so that it has the
// same bits when it is recomputed.
template <int EPILOGUE, int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    epilogue(real *c, real *aux, const real *bias, size_t M, size_t N, size_t row)
{
    const size_t column = thread_place(WIDTH);
    if (column >= N)
        return;
    float b[WIDTH] = {};
    if (bias)
        load(b, bias + column);
    for (size_t m = blockIdx.y; m < M; m += gridDim.y) {
        const size_t at = m * row + column;
        float x[WIDTH], pre[WIDTH];
        load(x, EPILOGUE == GEMM_BIAS_GELU && aux ? aux + at : c + at);
        if constexpr (EPILOGUE == GEMM_DGELU)
            load(pre, aux + at);
        for (int k = 0; k < WIDTH; k++) {
            if constexpr (EPILOGUE == GEMM_DGELU)
                x[k] *= gelu_derivative(pre[k]);
            else
                x[k] = to_float(to_real(x[k] + b[k]));
        }
        if constexpr (EPILOGUE == GEMM_BIAS_GELU) {
            if (aux && bias)
                store(aux + at, x);
            for (int k = 0; k < WIDTH; k++)
                x[k] = gelu(x[k]);
        }
        store(c + at, x);
    }
}

template <int EPILOGUE>
static void run_epilogue(struct device *device, const struct gemm *g, const real *bias)
{
    real *c = static_cast<real *>(g->c), *aux = static_cast<real *>(g->aux);
    const bool wide = g->N % PACK == 0 && can_be_wide(g->c_row, PACK, c, aux, bias);
    const auto gemm_epilogue = wide ? epilogue<EPILOGUE, PACK> : epilogue<EPILOGUE, 1>;
    RUN_KERNEL(device, gemm_epilogue, sample_grid(g->M, g->N, wide ? PACK : 1), THREADS, 0, c, aux,
               bias, g->M, g->N, g->c_row);
}

void CUDA_FN(gemm_epilogue)(struct device *device, const struct gemm *g, bool biased)
{
    const real *bias = biased ? NULL : static_cast<const real *>(g->bias);
    if (g->epilogue == GEMM_BIAS)
        run_epilogue<GEMM_BIAS>(device, g, bias);
    else if (g->epilogue == GEMM_BIAS_GELU)
        run_epilogue<GEMM_BIAS_GELU>(device, g, bias);
    else if (g->epilogue == GEMM_DGELU)
        run_epilogue<GEMM_DGELU>(device, g, bias);
}
