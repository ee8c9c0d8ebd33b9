// Matrix products by cuBLASLt, the algorithm for each shape chosen by timing.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gelu.h"

#define WORKSPACE  ((size_t)32 << 20) // what cuBLAS asks for on Hopper
#define CANDIDATES 8
#define TIMED_RUNS 3
#define SHAPES_MAX 1024

// All on which the choice of an algorithm depends. Compared as bytes.
struct shape {
    size_t M, N, K, a_row, b_row, c_row;
    int bits, finish;
    int a_transposed, b_transposed, c_float, accumulate, biased, with_aux;
    unsigned a_align, b_align, c_align; // of the addresses, in bytes
};

struct known {
    struct shape shape;
    cublasLtMatmulAlgo_t algorithm;
    bool fused; // the finish is part of the product; else a kernel of its own
};

struct gemm_context {
    cublasLtHandle_t handle;
    void *workspace;
    size_t n_known;
    struct known known[SHAPES_MAX];
};

// What one product hands to cuBLASLt, which sees all matrices by columns: it makes C^T = B^T A^T.
struct call {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c;
};

static bool set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t what,
                const void *value, size_t size)
{
    return cublasLtMatmulDescSetAttribute(product, what, value, size) == CUBLAS_STATUS_SUCCESS;
}

static bool set_finish(cublasLtMatmulDesc_t product, const struct gemm *g)
{
    const bool gelu = g->finish == GEMM_BIAS_GELU, slope = g->finish == GEMM_GELU_SLOPE;
    const cublasLtEpilogue_t epilogue = slope ? CUBLASLT_EPILOGUE_DGELU
                                        : gelu && g->aux && g->bias
                                            ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS
                                        : gelu && g->aux  ? CUBLASLT_EPILOGUE_GELU_AUX
                                        : gelu && g->bias ? CUBLASLT_EPILOGUE_GELU_BIAS
                                        : gelu            ? CUBLASLT_EPILOGUE_GELU
                                                          : CUBLASLT_EPILOGUE_BIAS;
    const int64_t aux_row = static_cast<int64_t>(g->c_row);
    const cudaDataType_t type = g->bits == 16 ? CUDA_R_16BF : CUDA_R_32F;
    return set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           (!g->bias ||
            (set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias) &&
             set(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type))) &&
           (!g->aux ||
            (set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &g->aux, sizeof g->aux) &&
             set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &aux_row, sizeof aux_row)));
}

// A matrix of rows x columns (by rows), as cuBLASLt sees it.
static bool make_layout(cublasLtMatrixLayout_t *layout, int bits, size_t rows, size_t columns,
                        size_t row)
{
    return cublasLtMatrixLayoutCreate(layout, bits == 16 ? CUDA_R_16BF : CUDA_R_32F, columns, rows,
                                      static_cast<int64_t>(row)) == CUBLAS_STATUS_SUCCESS;
}

static void end_call(struct call *call)
{
    if (call->c)
        cublasLtMatrixLayoutDestroy(call->c);
    if (call->b)
        cublasLtMatrixLayoutDestroy(call->b);
    if (call->a)
        cublasLtMatrixLayoutDestroy(call->a);
    if (call->product)
        cublasLtMatmulDescDestroy(call->product);
    *call = {};
}

static bool begin_call(struct call *call, const struct gemm *g, bool tf32, bool fused)
{
    const cublasOperation_t first = g->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = g->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    *call = {};
    if (cublasLtMatmulDescCreate(&call->product,
                                 g->bits == 32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                       : CUBLAS_COMPUTE_32F,
                                 CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
        set(call->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) &&
        set(call->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) &&
        (!fused || g->finish == GEMM_PLAIN || set_finish(call->product, g)) &&
        make_layout(&call->b, g->bits, g->b_transposed ? g->N : g->K, g->b_transposed ? g->K : g->N,
                    g->b_row) &&
        make_layout(&call->a, g->bits, g->a_transposed ? g->K : g->M, g->a_transposed ? g->M : g->K,
                    g->a_row) &&
        make_layout(&call->c, g->c_float ? 32 : g->bits, g->M, g->N, g->c_row))
        return true;
    end_call(call);
    return false;
}

static cublasStatus_t multiply(struct device *device, const struct call *call, const struct gemm *g,
                               void *c, const cublasLtMatmulAlgo_t *algorithm)
{
    const struct gemm_context *context = cuda_state(device)->gemm;
    const float one = 1, beta = g->accumulate ? 1 : 0;
    return cublasLtMatmul(context->handle, call->product, &one, g->b, call->b, g->a, call->a, &beta,
                          c, call->c, c, call->c, algorithm, context->workspace, WORKSPACE,
                          cuda_state(device)->stream);
}

// The best of the runs, in ms; 1e30 where the algorithm does not work.
static float time_algorithm(struct device *device, const struct call *call, const struct gemm *g,
                            void *c, const cublasLtMatmulAlgo_t *algorithm, cudaEvent_t begin,
                            cudaEvent_t end)
{
    float best = 1e30f;
    for (int run = 0; run < TIMED_RUNS; run++) {
        float ms = 0;
        cudaEventRecord(begin, cuda_state(device)->stream);
        if (multiply(device, call, g, c, algorithm) != CUBLAS_STATUS_SUCCESS)
            return 1e30f;
        cudaEventRecord(end, cuda_state(device)->stream);
        if (cudaEventSynchronize(end) != cudaSuccess ||
            cudaEventElapsedTime(&ms, begin, end) != cudaSuccess)
            return 1e30f;
        best = ms < best ? ms : best;
    }
    return best;
}

static unsigned alignment(const void *address)
{
    const uintptr_t bits = reinterpret_cast<uintptr_t>(address) | 256;
    return static_cast<unsigned>(bits & -bits);
}

static int find_candidates(struct gemm_context *context, const struct call *call,
                           const struct shape *shape, cublasLtMatmulHeuristicResult_t *candidates)
{
    cublasLtMatmulPreference_t wish;
    int found = 0;
    if (cublasLtMatmulPreferenceCreate(&wish) != CUBLAS_STATUS_SUCCESS)
        return 0;
    const size_t workspace = WORKSPACE;
    const uint32_t a = shape->b_align, b = shape->a_align, c = shape->c_align; // as it sees them
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                         sizeof workspace);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a,
                                         sizeof a);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b,
                                         sizeof b);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c,
                                         sizeof c);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c,
                                         sizeof c);
    if (cublasLtMatmulAlgoGetHeuristic(context->handle, call->product, call->b, call->a, call->c,
                                       call->c, wish, CANDIDATES, candidates,
                                       &found) != CUBLAS_STATUS_SUCCESS)
        found = 0;
    cublasLtMatmulPreferenceDestroy(wish);
    return found;
}

// Finds an algorithm for a shape. -1: there is none, with this finish at least.
static int choose(struct device *device, struct known *known, const struct gemm *g, bool fused)
{
    struct cuda_state *state = cuda_state(device);
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    struct call call;
    if (!begin_call(&call, g, state->tf32, fused))
        return -1;
    const int n = find_candidates(state->gemm, &call, &known->shape, candidates);
    if (n > 0)
        known->algorithm = candidates[0].algo;
    // Sums are timed in memory of their own; others may be written again and again.
    void *c = g->c;
    if (g->accumulate)
        c = state->recording ? NULL : cuda_scratch(device, g->M * g->c_row * 4);
    cudaEvent_t begin = NULL, end = NULL;
    if (n > 1 && c && !state->recording && cudaEventCreate(&begin) == cudaSuccess &&
        cudaEventCreate(&end) == cudaSuccess) {
        float best = 1e30f;
        for (int i = 0; i < n; i++) {
            const float ms = time_algorithm(device, &call, g, c, &candidates[i].algo, begin, end);
            if (ms < best) {
                best = ms;
                known->algorithm = candidates[i].algo;
            }
        }
    }
    if (begin)
        cudaEventDestroy(begin);
    if (end)
        cudaEventDestroy(end);
    end_call(&call);
    known->fused = fused;
    return n > 0 ? 0 : -1;
}

static const struct known *find(struct device *device, const struct gemm *g)
{
    struct gemm_context *context = cuda_state(device)->gemm;
    struct shape shape;
    memset(&shape, 0, sizeof shape); // padding too
    shape.M = g->M, shape.N = g->N, shape.K = g->K;
    shape.a_row = g->a_row, shape.b_row = g->b_row, shape.c_row = g->c_row;
    shape.bits = g->bits, shape.finish = g->finish;
    shape.a_transposed = g->a_transposed, shape.b_transposed = g->b_transposed;
    shape.c_float = g->c_float, shape.accumulate = g->accumulate;
    shape.biased = g->bias != NULL, shape.with_aux = g->aux != NULL;
    shape.a_align = alignment(g->a), shape.b_align = alignment(g->b);
    shape.c_align = alignment(g->c);
    for (size_t i = 0; i < context->n_known; i++)
        if (memcmp(&context->known[i].shape, &shape, sizeof shape) == 0)
            return &context->known[i];
    if (context->n_known == SHAPES_MAX) // only tests see so many
        context->n_known = 0;
    struct known *known = &context->known[context->n_known];
    known->shape = shape;
    if (choose(device, known, g, true) < 0 &&
        (g->finish == GEMM_PLAIN || choose(device, known, g, false) < 0))
        return NULL;
    context->n_known++;
    return known;
}

// The finish of a product where cuBLASLt has none for the shape.
template <typename T>
static __global__ void finish_kernel(T *c, T *aux, const T *bias, int finish, size_t M, size_t N,
                                     size_t row)
{
    const size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    if (at >= M * N)
        return;
    const size_t i = at / N * row + at % N;
    float x = static_cast<float>(c[i]) + (bias ? static_cast<float>(bias[at % N]) : 0);
    if (finish == GEMM_BIAS_GELU) {
        if (aux)
            aux[i] = static_cast<T>(x);
        x = gelu(x);
    } else if (finish == GEMM_GELU_SLOPE) {
        x *= gelu_slope(static_cast<float>(aux[i]));
    }
    c[i] = static_cast<T>(x);
}

template <typename T> static void finish(struct device *device, const struct gemm *g)
{
    RUN_KERNEL(device, finish_kernel<T>, blocks_for(g->M * g->N, 256), 256, 0,
               static_cast<T *>(g->c), static_cast<T *>(g->aux), static_cast<const T *>(g->bias),
               static_cast<int>(g->finish), g->M, g->N, g->c_row);
}

void gemm_run(struct device *device, const struct gemm *g)
{
    if (g->M == 0 || g->N == 0)
        return;
    const struct known *known = find(device, g);
    struct call call;
    cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (known && begin_call(&call, g, cuda_state(device)->tf32, known->fused)) {
        status = multiply(device, &call, g, g->c, &known->algorithm);
        end_call(&call);
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        if (!device->error[0])
            snprintf(device->error, sizeof device->error,
                     "%s: cuBLASLt can't do a product of %zux%zux%zu: %s", device->description,
                     g->M, g->N, g->K, cublasLtGetStatusString(status));
        return;
    }
    if (!known->fused && g->bits == 16)
        finish<__nv_bfloat16>(device, g);
    else if (!known->fused)
        finish<float>(device, g);
}

struct gemm_context *gemm_new(struct device *, char why[256])
{
    struct gemm_context *context =
        static_cast<struct gemm_context *>(calloc(1, sizeof(struct gemm_context)));
    if (!context) {
        snprintf(why, 256, "out of memory");
        return NULL;
    }
    if (cublasLtCreate(&context->handle) != CUBLAS_STATUS_SUCCESS ||
        cudaMalloc(&context->workspace, WORKSPACE) != cudaSuccess) {
        snprintf(why, 256, "cuBLASLt can't be started: %s", cudaGetErrorString(cudaGetLastError()));
        gemm_free(context);
        return NULL;
    }
    return context;
}

void gemm_free(struct gemm_context *context)
{
    if (context->handle)
        cublasLtDestroy(context->handle);
    cudaFree(context->workspace);
    free(context);
}
