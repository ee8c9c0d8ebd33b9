// Replaces cuBLASLt in the simulator: products by plain kernels, a thread for each element, and a
// heuristic that offers the algorithms which CUDASIM_ALGORITHMS describes.
// SPDX-License-Identifier: MIT
//
// The variable holds words separated by spaces, one for each algorithm, best first (default
// "fast"):
//     fast    computes the product
//     slow    does so 20 ms later
//     split   adds two halves of K in the workspace, as split-K does
//     fails   is refused when it runs
//     none    is offered with a state that says it is not supported
// A word that begins with "epilogue-" is only for products with a GELU epilogue, one that begins
// with "plain-" only for the others. CUDASIM_CUBLASLT=NAME makes the setter of the attribute that
// contains NAME, or the function so called, fail.
#include <cublasLt.h>

#include <chrono>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/gelu.h"
#include "sim.h"

struct cublasLtContext {
    int nothing;
};
struct cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cublasOperation_t a_op, b_op;
    cublasLtEpilogue_t epilogue;
    void *bias, *aux;
    cudaDataType bias_type;
    int64_t aux_ld;
};
struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t ld;
};
struct cublasLtMatmulPreferenceOpaque_t {
    size_t workspace;
    uint32_t reduction_schemes;
    uint32_t alignment[4]; // of A, B, C and D
};

namespace
{
// What the kernels take of a product: D (m,n) = op(A) op(B) + beta C, all by columns.
struct product {
    cublasLtMatmulDescOpaque_t desc;
    cudaDataType type, c_type;
    uint64_t m, n, k;
    int64_t a_ld, b_ld, c_ld;
    const void *a, *b, *c;
    void *d;
    float beta;
    float *halves; // (2,n,m) in the workspace, of a split product
};
enum algorithm_kind { FAST, SLOW, SPLIT, FAILS, NONE };
} // namespace

static bool must_fail(const char *name)
{
    const char *named = getenv("CUDASIM_CUBLASLT");
    return named && *named && strstr(name, named);
}

// The algorithms for an epilogue, in the heuristic's order.
static std::vector<algorithm_kind> list_algorithms(cublasLtEpilogue_t epilogue)
{
    static const std::string names[] = {"fast", "slow", "split", "fails", "none"};
    const bool gelu = epilogue & (CUBLASLT_EPILOGUE_GELU | 64);
    const char *setting = getenv("CUDASIM_ALGORITHMS");
    std::istringstream words(setting && *setting ? setting : "fast");
    std::vector<algorithm_kind> list;
    for (std::string word; words >> word;) {
        const std::string other = gelu ? "plain-" : "epilogue-",
                          own = gelu ? "epilogue-" : "plain-";
        if (word.compare(0, other.size(), other) == 0)
            continue;
        if (word.compare(0, own.size(), own) == 0)
            word.erase(0, own.size());
        for (int kind = FAST; kind <= NONE; kind++)
            if (word == names[kind])
                list.push_back(static_cast<algorithm_kind>(kind));
    }
    return list;
}

static __device__ float read(const void *from, cudaDataType type, size_t i)
{
    return type == CUDA_R_16BF ? static_cast<float>(static_cast<const __nv_bfloat16 *>(from)[i])
                               : static_cast<const float *>(from)[i];
}

static __device__ void write(void *to, cudaDataType type, size_t i, float x)
{
    if (type == CUDA_R_16BF)
        static_cast<__nv_bfloat16 *>(to)[i] = static_cast<__nv_bfloat16>(x);
    else
        static_cast<float *>(to)[i] = x;
}

template <class T> static __device__ float factor(T x, bool tf32)
{
    const float f = static_cast<float>(x);
    return tf32 ? __uint_as_float(to_tf32(f)) : f;
}

template <class T>
static __device__ float dot_of(const product &p, size_t row, size_t column, size_t k, size_t end)
{
    const bool tf32 = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const bool a_by_rows = p.desc.a_op == CUBLAS_OP_T, b_by_rows = p.desc.b_op == CUBLAS_OP_T;
    const size_t a_step = a_by_rows ? 1 : p.a_ld, b_step = b_by_rows ? p.b_ld : 1;
    const T *a = static_cast<const T *>(p.a) + row * (a_by_rows ? p.a_ld : 1);
    const T *b = static_cast<const T *>(p.b) + column * (b_by_rows ? 1 : p.b_ld);
    float sum = 0;
    for (; k < end; k++)
        sum += factor(a[k * a_step], tf32) * factor(b[k * b_step], tf32);
    return sum;
}

static __device__ float dot(const product &p, size_t row, size_t column, size_t k, size_t end)
{
    return p.type == CUDA_R_16BF ? dot_of<__nv_bfloat16>(p, row, column, k, end)
                                 : dot_of<float>(p, row, column, k, end);
}

// As inexact as tanh.approx, by which cuBLASLt computes GELU also in float32.
static __device__ float approximated(float x)
{
    return x * (1 + 0x1p-11f);
}

static __device__ void apply_epilogue(const product &p, size_t row, size_t column, float x)
{
    const size_t at = column * p.c_ld + row;
    if (p.beta != 0)
        x += p.beta * read(p.c, p.c_type, at);
    if (p.desc.epilogue & CUBLASLT_EPILOGUE_BIAS)
        x += read(p.desc.bias, p.desc.bias_type, row);
    if (p.desc.epilogue & CUBLASLT_EPILOGUE_GELU) {
        if (p.desc.epilogue & 128)
            write(p.desc.aux, p.type, column * p.desc.aux_ld + row, x);
        x = approximated(gelu(x));
    } else if (p.desc.epilogue & 64) {
        x *= approximated(gelu_derivative(read(p.desc.aux, p.type, column * p.desc.aux_ld + row)));
    }
    write(p.d, p.c_type, at, x);
}

static __global__ void multiply(product p)
{
    const size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    if (at < p.m * p.n)
        apply_epilogue(p, at % p.m, at / p.m, dot(p, at % p.m, at / p.m, 0, p.k));
}

static __global__ void multiply_half(product p)
{
    const size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    const size_t first = blockIdx.y ? p.k / 2 : 0, end = blockIdx.y ? p.k : p.k / 2;
    if (at < p.m * p.n)
        p.halves[blockIdx.y * p.m * p.n + at] = dot(p, at % p.m, at / p.m, first, end);
}

static __global__ void add_halves(product p)
{
    const size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    if (at < p.m * p.n)
        apply_epilogue(p, at % p.m, at / p.m, p.halves[at] + p.halves[p.m * p.n + at]);
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS            ? "CUBLAS_STATUS_SUCCESS"
           : status == CUBLAS_STATUS_ALLOC_FAILED     ? "CUBLAS_STATUS_ALLOC_FAILED"
           : status == CUBLAS_STATUS_INVALID_VALUE    ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                                      : "CUBLAS_STATUS_NOT_SUPPORTED";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    if (must_fail("cublasLtCreate"))
        return CUBLAS_STATUS_ALLOC_FAILED;
    *handle = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType)
{
    if (must_fail("cublasLtMatmulDescCreate"))
        return CUBLAS_STATUS_ALLOC_FAILED;
    *desc = new cublasLtMatmulDescOpaque_t();
    (*desc)->compute = compute;
    (*desc)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

template <class T> static cublasStatus_t take(T &member, const void *value, size_t size)
{
    if (size != sizeof member)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&member, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t size)
{
#define ATTRIBUTE(name, member)                                                       \
    case CUBLASLT_MATMUL_DESC_##name:                                                 \
        return must_fail("CUBLASLT_MATMUL_DESC_" #name) ? CUBLAS_STATUS_INVALID_VALUE \
                                                        : take(desc->member, value, size)
    switch (what) {
        ATTRIBUTE(TRANSA, a_op);
        ATTRIBUTE(TRANSB, b_op);
        ATTRIBUTE(EPILOGUE, epilogue);
        ATTRIBUTE(BIAS_POINTER, bias);
        ATTRIBUTE(BIAS_DATA_TYPE, bias_type);
        ATTRIBUTE(EPILOGUE_AUX_POINTER, aux);
        ATTRIBUTE(EPILOGUE_AUX_LD, aux_ld);
    }
#undef ATTRIBUTE
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld)
{
    if (must_fail("cublasLtMatrixLayoutCreate"))
        return CUBLAS_STATUS_ALLOC_FAILED;
    *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new cublasLtMatmulPreferenceOpaque_t{0, 7, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t size)
{
    if (must_fail("cublasLtMatmulPreferenceSetAttribute"))
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(preference->workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return take(preference->reduction_schemes, value, size);
    default:
        return take(preference->alignment[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
                    size);
    }
}

// What cuBLASLt requires of its auxiliary matrix, and that GELU is only for equal types.
static bool supports(const cublasLtMatmulDescOpaque_t *desc, const cublasLtMatrixLayoutOpaque_t *a,
                     const cublasLtMatrixLayoutOpaque_t *c)
{
    const bool with_aux = desc->epilogue & 128;
    return (desc->epilogue == CUBLASLT_EPILOGUE_DEFAULT || a->type == c->type) &&
           !(desc->epilogue & 16) && // the gradient of the bias is not simulated
           (!with_aux || (desc->aux && desc->aux_ld % 8 == 0 &&
                          reinterpret_cast<uintptr_t>(desc->aux) % 16 == 0)) &&
           (!(desc->epilogue & CUBLASLT_EPILOGUE_BIAS) || desc->bias);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    *found = 0;
    if (must_fail("cublasLtMatmulAlgoGetHeuristic"))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!supports(desc, a, c))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (const algorithm_kind kind : list_algorithms(desc->epilogue)) {
        const size_t workspace = kind == SPLIT ? 2 * c->rows * c->columns * sizeof(float) : 0;
        if (*found == most || workspace > preference->workspace ||
            (kind == SPLIT && preference->reduction_schemes == CUBLASLT_REDUCTION_SCHEME_NONE))
            continue;
        results[*found] = {};
        results[*found].algo.data[0] = kind;
        results[*found].workspaceSize = workspace;
        results[(*found)++].state =
            kind == NONE ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    }
    return *found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t what,
                                                    void *value, size_t size, size_t *written)
{
    const int32_t number = what == CUBLASLT_ALGO_CONFIG_SPLITK_NUM
                               ? 1 + (algo->data[0] == SPLIT)
                               : static_cast<int>(algo->data[0]);
    if (size != sizeof number)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, &number, size);
    *written = size;
    return CUBLAS_STATUS_SUCCESS;
}

static cudaError_t launch_product(const product &p, algorithm_kind kind, cudaStream_t stream)
{
    const unsigned blocks = blocks_for(p.m * p.n, 128);
    if (kind == SPLIT) {
        const cudaError_t error = LAUNCH(multiply_half, dim3(blocks, 2), 128, 0, stream, p);
        return error != cudaSuccess ? error : LAUNCH(add_halves, blocks, 128, 0, stream, p);
    }
    if (kind == SLOW) {
        const cudasim::call c;
        cudasim::issue(stream, [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
    }
    return LAUNCH(multiply, blocks, 128, 0, stream, p);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_size, cudaStream_t stream)
{
    const algorithm_kind kind = static_cast<algorithm_kind>(algo->data[0]);
    const uint64_t k = desc->a_op == CUBLAS_OP_T ? a_layout->rows : a_layout->columns;
    const product p = {*desc,
                       a_layout->type,
                       c_layout->type,
                       c_layout->rows,
                       c_layout->columns,
                       k,
                       a_layout->ld,
                       b_layout->ld,
                       c_layout->ld,
                       a,
                       b,
                       c,
                       d,
                       *static_cast<const float *>(beta),
                       static_cast<float *>(workspace)};
    if (kind == FAILS || kind == NONE)
        return kind == FAILS ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_NOT_SUPPORTED;
    // What cuBLASLt would check, or take for granted.
    const size_t needed = kind == SPLIT ? 2 * p.m * p.n * sizeof(float) : 0;
    if (*static_cast<const float *>(alpha) != 1 || c != d || c_layout != d_layout ||
        !supports(desc, a_layout, c_layout) || a_layout->type != b_layout->type ||
        (desc->a_op == CUBLAS_OP_T ? a_layout->columns : a_layout->rows) != p.m ||
        (desc->b_op == CUBLAS_OP_T ? b_layout->columns : b_layout->rows) != k ||
        (desc->b_op == CUBLAS_OP_T ? b_layout->rows : b_layout->columns) != p.n ||
        needed > workspace_size)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (const void *address :
         {a, b, c, static_cast<const void *>(desc->bias), static_cast<const void *>(desc->aux)})
        if (address && !cudasim::is_device(address, 1))
            return CUBLAS_STATUS_INVALID_VALUE;
    return launch_product(p, kind, stream) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                          : CUBLAS_STATUS_EXECUTION_FAILED;
}
