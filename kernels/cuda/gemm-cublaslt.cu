// Matrix products by cuBLASLt, the algorithm for each shape chosen by timing.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gelu.h"

#define WORKSPACE  ((size_t)32 << 20) // the size that cuBLAS recommends on Hopper
#define CANDIDATES 8
#define TIMED_RUNS 3
#define SHAPES_MAX 1024

// Everything that the choice of an algorithm depends on. Compared byte by byte.
struct shape {
    size_t M, N, K, a_row, b_row, c_row;
    int bits, epilogue;
    int a_transposed, b_transposed, c_float, accumulate, biased, with_aux;
    unsigned a_align, b_align, c_align; // of the addresses, in bytes
};

struct algorithm_choice {
    struct shape shape;
    cublasLtMatmulAlgo_t algorithm;
    bool fused; // the epilogue is part of the product, not a kernel of its own
};

struct gemm_context {
    cublasLtHandle_t handle;
    void *workspace;
    size_t n_choices;
    struct algorithm_choice choices[SHAPES_MAX];
};

// The descriptors of one product. cuBLASLt takes column-major matrices, so it computes C^T = B^T
// A^T.
struct matmul {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c;
};

static bool set_attribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t what,
                          const void *value, size_t size)
{
    return cublasLtMatmulDescSetAttribute(product, what, value, size) == CUBLAS_STATUS_SUCCESS;
}

static bool set_epilogue(cublasLtMatmulDesc_t product, const struct gemm *g)
{
    const bool gelu = g->epilogue == GEMM_BIAS_GELU, dgelu = g->epilogue == GEMM_DGELU;
    const cublasLtEpilogue_t fused = dgelu                       ? CUBLASLT_EPILOGUE_DGELU
                                     : gelu && g->aux && g->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS
                                     : gelu && g->aux            ? CUBLASLT_EPILOGUE_GELU_AUX
                                     : gelu && g->bias           ? CUBLASLT_EPILOGUE_GELU_BIAS
                                     : gelu                      ? CUBLASLT_EPILOGUE_GELU
                                                                 : CUBLASLT_EPILOGUE_BIAS;
    const int64_t aux_row = static_cast<int64_t>(g->c_row);
    const cudaDataType_t type = g->bits == 16 ? CUDA_R_16BF : CUDA_R_32F;
    return set_attribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &fused, sizeof fused) &&
           (!g->bias ||
            (set_attribute(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias) &&
             set_attribute(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type))) &&
           (!g->aux || (set_attribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &g->aux,
                                      sizeof g->aux) &&
                        set_attribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &aux_row,
                                      sizeof aux_row)));
}

// Describes a row-major matrix of rows x columns to cuBLASLt, as its column-major transpose.
static bool make_layout(cublasLtMatrixLayout_t *layout, int bits, size_t rows, size_t columns,
                        size_t row)
{
    return cublasLtMatrixLayoutCreate(layout, bits == 16 ? CUDA_R_16BF : CUDA_R_32F, columns, rows,
                                      static_cast<int64_t>(row)) == CUBLAS_STATUS_SUCCESS;
}

static void matmul_end(struct matmul *matmul)
{
    if (matmul->c)
        cublasLtMatrixLayoutDestroy(matmul->c);
    if (matmul->b)
        cublasLtMatrixLayoutDestroy(matmul->b);
    if (matmul->a)
        cublasLtMatrixLayoutDestroy(matmul->a);
    if (matmul->product)
        cublasLtMatmulDescDestroy(matmul->product);
    *matmul = {};
}

static bool matmul_begin(struct matmul *matmul, const struct gemm *g, bool tf32, bool fused)
{
    const cublasOperation_t first = g->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = g->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    *matmul = {};
    if (cublasLtMatmulDescCreate(&matmul->product,
                                 g->bits == 32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                       : CUBLAS_COMPUTE_32F,
                                 CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
        set_attribute(matmul->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) &&
        set_attribute(matmul->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) &&
        (!fused || g->epilogue == GEMM_PLAIN || set_epilogue(matmul->product, g)) &&
        make_layout(&matmul->b, g->bits, g->b_transposed ? g->N : g->K,
                    g->b_transposed ? g->K : g->N, g->b_row) &&
        make_layout(&matmul->a, g->bits, g->a_transposed ? g->K : g->M,
                    g->a_transposed ? g->M : g->K, g->a_row) &&
        make_layout(&matmul->c, g->c_float ? 32 : g->bits, g->M, g->N, g->c_row))
        return true;
    matmul_end(matmul);
    return false;
}

static cublasStatus_t run_matmul(struct device *device, const struct matmul *matmul,
                                 const struct gemm *g, void *c,
                                 const cublasLtMatmulAlgo_t *algorithm)
{
    const struct gemm_context *context = cuda_state(device)->gemm;
    const float one = 1, beta = g->accumulate ? 1 : 0;
    return cublasLtMatmul(context->handle, matmul->product, &one, g->b, matmul->b, g->a, matmul->a,
                          &beta, c, matmul->c, c, matmul->c, algorithm, context->workspace,
                          WORKSPACE, cuda_state(device)->stream);
}

// The fastest of the runs, in ms; 1e30 if the algorithm fails.
static float time_algorithm(struct device *device, const struct matmul *matmul,
                            const struct gemm *g, void *c, const cublasLtMatmulAlgo_t *algorithm,
                            cudaEvent_t begin, cudaEvent_t end)
{
    float best = 1e30f;
    for (int run = 0; run < TIMED_RUNS; run++) {
        float ms = 0;
        cudaEventRecord(begin, cuda_state(device)->stream);
        if (run_matmul(device, matmul, g, c, algorithm) != CUBLAS_STATUS_SUCCESS)
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

static int find_candidates(struct gemm_context *context, const struct matmul *matmul,
                           const struct shape *shape, cublasLtMatmulHeuristicResult_t *candidates)
{
    cublasLtMatmulPreference_t preference;
    int found = 0;
    if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
        return 0;
    const size_t workspace = WORKSPACE;
    const uint32_t a = shape->b_align, b = shape->a_align, c = shape->c_align; // A and B swapped
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace, sizeof workspace);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a,
                                         sizeof a);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b,
                                         sizeof b);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c,
                                         sizeof c);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c,
                                         sizeof c);
    if (cublasLtMatmulAlgoGetHeuristic(context->handle, matmul->product, matmul->b, matmul->a,
                                       matmul->c, matmul->c, preference, CANDIDATES, candidates,
                                       &found) != CUBLAS_STATUS_SUCCESS)
        found = 0;
    cublasLtMatmulPreferenceDestroy(preference);
    return found;
}

// Finds an algorithm for a shape, with the epilogue fused or not. -1 if there is none.
static int choose_algorithm(struct device *device, struct algorithm_choice *choice,
                            const struct gemm *g, bool fused)
{
    struct cuda_state *state = cuda_state(device);
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    struct matmul matmul;
    if (!matmul_begin(&matmul, g, state->tf32, fused))
        return -1;
    const int n = find_candidates(state->gemm, &matmul, &choice->shape, candidates);
    if (n > 0)
        choice->algorithm = candidates[0].algo;
    // A product that accumulates is timed on scratch memory; others may overwrite C repeatedly.
    void *c = g->c;
    if (g->accumulate)
        c = state->recording ? NULL : cuda_scratch(device, g->M * g->c_row * 4);
    cudaEvent_t begin = NULL, end = NULL;
    if (n > 1 && c && !state->recording && cudaEventCreate(&begin) == cudaSuccess &&
        cudaEventCreate(&end) == cudaSuccess) {
        float best = 1e30f;
        for (int i = 0; i < n; i++) {
            const float ms = time_algorithm(device, &matmul, g, c, &candidates[i].algo, begin, end);
            if (ms < best) {
                best = ms;
                choice->algorithm = candidates[i].algo;
            }
        }
    }
    if (begin)
        cudaEventDestroy(begin);
    if (end)
        cudaEventDestroy(end);
    matmul_end(&matmul);
    choice->fused = fused;
    return n > 0 ? 0 : -1;
}

static const struct algorithm_choice *find_algorithm(struct device *device, const struct gemm *g)
{
    struct gemm_context *context = cuda_state(device)->gemm;
    struct shape shape;
    memset(&shape, 0, sizeof shape); // the padding too, as bytes are compared
    shape.M = g->M, shape.N = g->N, shape.K = g->K;
    shape.a_row = g->a_row, shape.b_row = g->b_row, shape.c_row = g->c_row;
    shape.bits = g->bits, shape.epilogue = g->epilogue;
    shape.a_transposed = g->a_transposed, shape.b_transposed = g->b_transposed;
    shape.c_float = g->c_float, shape.accumulate = g->accumulate;
    shape.biased = g->bias != NULL, shape.with_aux = g->aux != NULL;
    shape.a_align = alignment(g->a), shape.b_align = alignment(g->b);
    shape.c_align = alignment(g->c);
    for (size_t i = 0; i < context->n_choices; i++)
        if (memcmp(&context->choices[i].shape, &shape, sizeof shape) == 0)
            return &context->choices[i];
    if (context->n_choices == SHAPES_MAX) // only tests have that many shapes
        context->n_choices = 0;
    struct algorithm_choice *choice = &context->choices[context->n_choices];
    choice->shape = shape;
    if (choose_algorithm(device, choice, g, true) < 0 &&
        (g->epilogue == GEMM_PLAIN || choose_algorithm(device, choice, g, false) < 0))
        return NULL;
    context->n_choices++;
    return choice;
}

// The epilogue of a product for whose shape cuBLASLt has none.
template <typename T>
static __global__ void epilogue_kernel(T *c, T *aux, const T *bias, int epilogue, size_t M,
                                       size_t N, size_t row)
{
    const size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    if (at >= M * N)
        return;
    const size_t i = at / N * row + at % N;
    float x = static_cast<float>(c[i]) + (bias ? static_cast<float>(bias[at % N]) : 0);
    if (epilogue == GEMM_BIAS_GELU) {
        if (aux)
            aux[i] = static_cast<T>(x);
        x = gelu(x);
    } else if (epilogue == GEMM_DGELU) {
        x *= gelu_derivative(static_cast<float>(aux[i]));
    }
    c[i] = static_cast<T>(x);
}

template <typename T> static void run_epilogue(struct device *device, const struct gemm *g)
{
    RUN_KERNEL(device, epilogue_kernel<T>, blocks_for(g->M * g->N, 256), 256, 0,
               static_cast<T *>(g->c), static_cast<T *>(g->aux), static_cast<const T *>(g->bias),
               static_cast<int>(g->epilogue), g->M, g->N, g->c_row);
}

void gemm_run(struct device *device, const struct gemm *g)
{
    if (g->M == 0 || g->N == 0)
        return;
    const struct algorithm_choice *choice = find_algorithm(device, g);
    struct matmul matmul;
    cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (choice && matmul_begin(&matmul, g, cuda_state(device)->tf32, choice->fused)) {
        status = run_matmul(device, &matmul, g, g->c, &choice->algorithm);
        matmul_end(&matmul);
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        if (!device->error[0])
            snprintf(device->error, sizeof device->error,
                     "%s: cuBLASLt can't do a product of %zux%zux%zu: %s", device->description,
                     g->M, g->N, g->K, cublasLtGetStatusString(status));
        return;
    }
    if (!choice->fused && g->bits == 16)
        run_epilogue<__nv_bfloat16>(device, g);
    else if (!choice->fused)
        run_epilogue<float>(device, g);
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
