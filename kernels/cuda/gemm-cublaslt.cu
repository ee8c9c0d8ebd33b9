// Matrix products by cuBLASLt, the algorithm for each shape chosen by timing.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE      ((size_t)32 << 20) // the size that cuBLAS recommends on Hopper
#define HEURISTICS     16                 // algorithms to ask cuBLASLt for at a time
#define CANDIDATES_MAX (3 * HEURISTICS)
#define TIMED_RUNS     3
#define SHAPES_MAX     1024
#define LOG_VARIABLE   "DIT_CUDA_LOG"

// What a kernel of our own does of the epilogue.
enum own_part { OWN_NOTHING, OWN_GELU, OWN_ALL };

// Everything that the choice of an algorithm depends on. Compared byte by byte.
struct shape {
    size_t M, N, K, a_row, b_row, c_row;
    int bits, epilogue;
    int a_transposed, b_transposed, c_float, accumulate, biased, with_aux;
    unsigned a_align, b_align, c_align, bias_align, aux_align; // of the addresses, in bytes
};

struct candidate {
    cublasLtMatmulAlgo_t algorithm;
    enum own_part own;
    float ms;              // 0 if it was not timed
    cublasStatus_t status; // of its runs so far
};

struct algorithm_choice {
    struct shape shape;
    struct candidate candidate;
};

struct gemm_context {
    cublasLtHandle_t handle;
    void *workspaces[2]; // of the device's stream, and of the one beside it
    FILE *log;           // NULL if there is none
    const char *failed;  // the last call of cuBLASLt that failed for this product, or NULL,
    cublasStatus_t with; // and its status
    size_t n_choices;
    struct algorithm_choice choices[SHAPES_MAX];
};

// The descriptors of one product. cuBLASLt takes column-major matrices, so it computes C^T = B^T
// A^T.
struct matmul {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c;
};

// Whether a call succeeded; keeps the last that didn't.
static bool went_well(struct gemm_context *context, cublasStatus_t status, const char *call)
{
    if (status != CUBLAS_STATUS_SUCCESS) {
        context->failed = call;
        context->with = status;
    }
    return status == CUBLAS_STATUS_SUCCESS;
}

static const char *failure_of(const struct gemm_context *context)
{
    return context->failed ? context->failed : "no algorithm is usable";
}

// The same for an attribute of a product, or of what to ask for.
#define SET(context, product, name, value)                                                   \
    went_well(context,                                                                       \
              cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_##name, &(value), \
                                             sizeof(value)),                                 \
              "setting " #name)
#define PREFER(context, preference, name, value)                                            \
    went_well(context,                                                                      \
              cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_##name, \
                                                   &(value), sizeof(value)),                \
              "setting " #name)

static bool set_epilogue(struct gemm_context *context, cublasLtMatmulDesc_t product,
                         const struct gemm *g)
{
    const bool gelu = g->epilogue == GEMM_BIAS_GELU, dgelu = g->epilogue == GEMM_DGELU;
    const cublasLtEpilogue_t fused = dgelu                       ? CUBLASLT_EPILOGUE_DGELU
                                     : gelu && g->aux && g->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS
                                     : gelu && g->aux            ? CUBLASLT_EPILOGUE_GELU_AUX
                                     : gelu && g->bias           ? CUBLASLT_EPILOGUE_GELU_BIAS
                                     : gelu                      ? CUBLASLT_EPILOGUE_GELU
                                                                 : CUBLASLT_EPILOGUE_BIAS;
    const int64_t aux_row = static_cast<int64_t>(g->c_row);
    const cudaDataType type = g->bits == 16 ? CUDA_R_16BF : CUDA_R_32F;
    return SET(context, product, EPILOGUE, fused) &&
           (!g->bias || (SET(context, product, BIAS_POINTER, g->bias) &&
                         SET(context, product, BIAS_DATA_TYPE, type))) &&
           (!g->aux || (SET(context, product, EPILOGUE_AUX_POINTER, g->aux) &&
                        SET(context, product, EPILOGUE_AUX_LD, aux_row)));
}

// Describes a row-major matrix of rows x columns to cuBLASLt, as its column-major transpose.
static bool make_layout(struct gemm_context *context, cublasLtMatrixLayout_t *layout, int bits,
                        size_t rows, size_t columns, size_t row)
{
    return went_well(context,
                     cublasLtMatrixLayoutCreate(layout, bits == 16 ? CUDA_R_16BF : CUDA_R_32F,
                                                columns, rows, static_cast<int64_t>(row)),
                     "describing a matrix");
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

static bool matmul_begin(struct device *device, struct matmul *matmul, const struct gemm *g)
{
    struct gemm_context *context = cuda_state(device)->gemm;
    const cublasOperation_t first = g->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = g->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasComputeType_t compute = g->bits == 32 && cuda_state(device)->tf32
                                            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    *matmul = {};
    if (went_well(context, cublasLtMatmulDescCreate(&matmul->product, compute, CUDA_R_32F),
                  "describing a product") &&
        SET(context, matmul->product, TRANSA, first) &&
        SET(context, matmul->product, TRANSB, second) &&
        (g->epilogue == GEMM_PLAIN || set_epilogue(context, matmul->product, g)) &&
        make_layout(context, &matmul->b, g->bits, g->b_transposed ? g->N : g->K,
                    g->b_transposed ? g->K : g->N, g->b_row) &&
        make_layout(context, &matmul->a, g->bits, g->a_transposed ? g->K : g->M,
                    g->a_transposed ? g->M : g->K, g->a_row) &&
        make_layout(context, &matmul->c, g->c_float ? 32 : g->bits, g->M, g->N, g->c_row))
        return true;
    matmul_end(matmul);
    return false;
}

// What remains of a product without our own part of its epilogue.
static struct gemm without(const struct gemm *g, enum own_part own)
{
    struct gemm product = *g;
    if (own == OWN_NOTHING)
        return product;
    if (g->epilogue == GEMM_BIAS_GELU && g->aux)
        product.c = g->aux;
    product.aux = NULL;
    product.epilogue = GEMM_BIAS;
    if (own == OWN_ALL || !g->bias) {
        product.epilogue = GEMM_PLAIN;
        product.bias = NULL;
    }
    return product;
}

// Runs the whole product, with its epilogue, by a candidate.
static bool run_candidate(struct device *device, struct candidate *candidate, const struct gemm *g)
{
    struct gemm_context *context = cuda_state(device)->gemm;
    const struct gemm product = without(g, candidate->own);
    const float one = 1, beta = g->accumulate ? 1 : 0;
    struct matmul matmul;
    if (!matmul_begin(device, &matmul, &product)) {
        candidate->status = context->with;
        return false;
    }
    candidate->status =
        cublasLtMatmul(context->handle, matmul.product, &one, product.b, matmul.b, product.a,
                       matmul.a, &beta, product.c, matmul.c, product.c, matmul.c,
                       &candidate->algorithm, context->workspaces[cuda_state(device)->side.active],
                       WORKSPACE, cuda_state(device)->stream);
    matmul_end(&matmul);
    if (!went_well(context, candidate->status, "running it"))
        return false;
    if (candidate->own != OWN_NOTHING)
        (g->bits == 16 ? cuda_bf16_gemm_epilogue : cuda_f32_gemm_epilogue)(device, g,
                                                                           product.bias != NULL);
    return true;
}

static unsigned alignment(const void *address)
{
    const uintptr_t bits = reinterpret_cast<uintptr_t>(address) | 256;
    return static_cast<unsigned>(bits & -bits);
}

// The number of parts that an algorithm splits the sums over K into.
static int split_of(const cublasLtMatmulAlgo_t *algorithm)
{
    int32_t parts = 1;
    size_t size;
    cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                         sizeof parts, &size);
    return parts > 1 ? parts : 1;
}

// Asks cuBLASLt for algorithms. Returns their number, of which some may not be usable.
static int ask_heuristic(struct device *device, const struct gemm *product,
                         cublasLtMatmulHeuristicResult_t *results)
{
    struct gemm_context *context = cuda_state(device)->gemm;
    cublasLtMatmulPreference_t preference = NULL;
    struct matmul matmul;
    int found = 0;
    if (!matmul_begin(device, &matmul, product))
        return 0;
    const size_t workspace = WORKSPACE;
    const uint32_t none = CUBLASLT_REDUCTION_SCHEME_NONE;
    const uint32_t a = alignment(product->b), b = alignment(product->a); // A and B swapped
    const uint32_t c = alignment(product->c);
    if (!went_well(context, cublasLtMatmulPreferenceCreate(&preference), "asking for algorithms") ||
        !PREFER(context, preference, MAX_WORKSPACE_BYTES, workspace) ||
        !PREFER(context, preference, MIN_ALIGNMENT_A_BYTES, a) ||
        !PREFER(context, preference, MIN_ALIGNMENT_B_BYTES, b) ||
        !PREFER(context, preference, MIN_ALIGNMENT_C_BYTES, c) ||
        !PREFER(context, preference, MIN_ALIGNMENT_D_BYTES, c) ||
        (device->deterministic && !PREFER(context, preference, REDUCTION_SCHEME_MASK, none)) ||
        !went_well(context,
                   cublasLtMatmulAlgoGetHeuristic(context->handle, matmul.product, matmul.b,
                                                  matmul.a, matmul.c, matmul.c, preference,
                                                  HEURISTICS, results, &found),
                   "asking for algorithms"))
        found = 0;
    if (preference)
        cublasLtMatmulPreferenceDestroy(preference);
    matmul_end(&matmul);
    return found;
}

// Adds the usable algorithms for a product of which `own` is ours to n candidates. Returns their
// new number.
static int add_candidates(struct device *device, const struct gemm *g, enum own_part own,
                          struct candidate *candidates, int n)
{
    cublasLtMatmulHeuristicResult_t results[HEURISTICS];
    const struct gemm product = without(g, own);
    const int found = ask_heuristic(device, &product, results);
    for (int i = 0; i < found; i++)
        if (results[i].state == CUBLAS_STATUS_SUCCESS &&
            !(device->deterministic && split_of(&results[i].algo) > 1))
            candidates[n++] = {results[i].algo, own, 0, CUBLAS_STATUS_SUCCESS};
    return n;
}

// Lists the ways to do a product, those with a fused epilogue first. cuBLASLt's GELU takes an
// approximate tanh, too inexact for float32; in bfloat16 it is faster on some GPUs, and on others
// slower than our own kernel after a product without it.
static int list_candidates(struct device *device, const struct gemm *g,
                           struct candidate candidates[CANDIDATES_MAX])
{
    const bool gelu = g->epilogue == GEMM_BIAS_GELU || g->epilogue == GEMM_DGELU;
    int n = 0;
    if (!gelu || g->bits == 16)
        n = add_candidates(device, g, OWN_NOTHING, candidates, n);
    if (gelu)
        n = add_candidates(device, g, OWN_GELU, candidates, n);
    return n;
}

// Sets a candidate's time, the shortest of some runs after one that loads its kernels. A run that
// is far from `best` is the last.
static void time_candidate(struct device *device, struct candidate *candidate, const struct gemm *g,
                           cudaEvent_t begin, cudaEvent_t end, float best)
{
    float shortest = INFINITY;
    if (!run_candidate(device, candidate, g))
        return;
    for (int run = 0; run < TIMED_RUNS; run++) {
        float ms = 0;
        if (cudaEventRecord(begin, cuda_state(device)->stream) != cudaSuccess ||
            !run_candidate(device, candidate, g) ||
            cudaEventRecord(end, cuda_state(device)->stream) != cudaSuccess ||
            cudaEventSynchronize(end) != cudaSuccess ||
            cudaEventElapsedTime(&ms, begin, end) != cudaSuccess) {
            if (candidate->status == CUBLAS_STATUS_SUCCESS)
                candidate->status = CUBLAS_STATUS_EXECUTION_FAILED;
            return;
        }
        shortest = fminf(shortest, ms);
        if (ms > 1.5f * best)
            break;
    }
    candidate->ms = shortest;
}

static int compare_times(const void *a, const void *b)
{
    const struct candidate *x = static_cast<const struct candidate *>(a);
    const struct candidate *y = static_cast<const struct candidate *>(b);
    const float x_ms = x->status == CUBLAS_STATUS_SUCCESS ? x->ms : INFINITY;
    const float y_ms = y->status == CUBLAS_STATUS_SUCCESS ? y->ms : INFINITY;
    return x_ms < y_ms ? -1 : x_ms > y_ms;
}

// Waits until nothing runs beside the products that are to be timed; sums of lost ranks are
// noticed.
static void wait_for_all(struct device *device)
{
    cuda_group_wait(device);
    cuda_wait_for(device, NULL, "waiting to time products");
    if (!cuda_state(device)->side.active)
        cuda_check(device, cudaStreamSynchronize(cuda_state(device)->side.stream),
                   "waiting to time products");
}

// Times the candidates and puts the fastest first. Where that can't be done, their order stays. A
// product that accumulates is timed on memory of its own; others may overwrite C repeatedly.
static void sort_candidates(struct device *device, const struct gemm *g,
                            struct candidate *candidates, int n)
{
    struct gemm timed = *g;
    cudaEvent_t begin = NULL, end = NULL;
    void *memory = NULL;
    wait_for_all(device);
    bool can = cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess;
    if (can && g->accumulate) {
        can = cudaMalloc(&memory, g->M * g->c_row * sizeof(float)) == cudaSuccess;
        timed.c = memory;
    }
    float best = INFINITY;
    for (int i = 0; can && i < n; i++) {
        time_candidate(device, &candidates[i], &timed, begin, end, best);
        if (candidates[i].status == CUBLAS_STATUS_SUCCESS)
            best = fminf(best, candidates[i].ms);
    }
    if (can)
        qsort(candidates, static_cast<size_t>(n), sizeof *candidates, compare_times);
    cudaFree(memory);
    if (begin)
        cudaEventDestroy(begin);
    if (end)
        cudaEventDestroy(end);
    cudaGetLastError(); // clears the error: the product can be done without timing
}

static void log_candidates(struct device *device, const struct gemm *g,
                           const struct candidate *candidates, int n, int chosen)
{
    static const char *const epilogues[] = {"none", "bias", "bias+gelu", "dgelu"};
    static const char *const by_us[] = {"all", "not gelu", "none"};
    const struct cuda_state *state = cuda_state(device);
    FILE *log = state->gemm->log;
    for (int i = 0; log && i < (n ? n : 1); i++) {
        fprintf(log, "%d\t%zu\t%zu\t%zu\t%s\t%c%c\t%s\t%s\t", state->index, g->M, g->N, g->K,
                g->bits == 16 ? "bf16"
                : state->tf32 ? "tf32"
                              : "f32",
                g->a_transposed ? 'T' : 'N', g->b_transposed ? 'T' : 'N',
                g->accumulate ? "add" : "set", epilogues[g->epilogue]);
        if (n)
            fprintf(log, "%s\t%d\t%.4f\t%s\t%s\n",
                    g->epilogue == GEMM_PLAIN ? "-" : by_us[candidates[i].own],
                    split_of(&candidates[i].algorithm), static_cast<double>(candidates[i].ms),
                    cublasLtGetStatusString(candidates[i].status), i == chosen ? "chosen" : "");
        else
            fprintf(log, "-\t-\t-\t%s: %s\t\n", failure_of(state->gemm),
                    cublasLtGetStatusString(state->gemm->with));
    }
}

static void set_product_error(struct device *device, const struct gemm *g)
{
    const struct gemm_context *context = cuda_state(device)->gemm;
    if (!device->error[0])
        snprintf(device->error, sizeof device->error,
                 "%s: cuBLASLt can't do a product of %zux%zux%zu: %s: %s", device->description,
                 g->M, g->N, g->K, failure_of(context), cublasLtGetStatusString(context->with));
}

// Runs a product by the first of the candidates from `at` that can. Returns its number, or n.
static int run_first(struct device *device, const struct gemm *g, struct candidate *candidates,
                     int at, int n)
{
    while (at < n && !run_candidate(device, &candidates[at], g))
        at++;
    return at;
}

// Runs a product of a new shape by the best candidate that can, and keeps that. Sets the device's
// error if none can.
static void choose_and_run(struct device *device, const struct shape *shape, const struct gemm *g)
{
    struct cuda_state *state = cuda_state(device);
    struct gemm_context *context = state->gemm;
    struct candidate candidates[CANDIDATES_MAX];
    context->failed = NULL;
    context->with = CUBLAS_STATUS_NOT_SUPPORTED;
    int n = list_candidates(device, g, candidates);
    if (n > 1 && !device->deterministic && !state->recording)
        sort_candidates(device, g, candidates, n);
    int chosen = run_first(device, g, candidates, 0, n);
    if (chosen == n && g->epilogue != GEMM_PLAIN) {
        n = add_candidates(device, g, OWN_ALL, candidates, n);
        chosen = run_first(device, g, candidates, chosen, n);
    }
    log_candidates(device, g, candidates, n, chosen);
    if (chosen == n) {
        set_product_error(device, g);
        return;
    }
    if (context->n_choices == SHAPES_MAX) // only tests have that many shapes
        context->n_choices = 0;
    struct algorithm_choice *choice = &context->choices[context->n_choices++];
    memcpy(&choice->shape, shape, sizeof *shape); // with its padding
    choice->candidate = candidates[chosen];
}

static struct shape shape_of(const struct gemm *g)
{
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
    shape.bias_align = alignment(g->bias), shape.aux_align = alignment(g->aux);
    return shape;
}

void gemm_run(struct device *device, const struct gemm *g)
{
    struct gemm_context *context = cuda_state(device)->gemm;
    if (g->M == 0 || g->N == 0)
        return;
    const struct shape shape = shape_of(g);
    struct algorithm_choice *choice = context->choices, *end = choice + context->n_choices;
    while (choice < end && memcmp(&choice->shape, &shape, sizeof shape) != 0)
        choice++;
    if (choice == end) {
        choose_and_run(device, &shape, g);
        return;
    }
    context->failed = NULL;
    if (!run_candidate(device, &choice->candidate, g))
        set_product_error(device, g);
}

// Opens the log that the variable names, if it does, and writes the columns' names into a new one.
static int open_log(struct gemm_context *context, char why[256])
{
    const char *path = getenv(LOG_VARIABLE);
    if (!path || !*path)
        return 0;
    context->log = fopen(path, "a");
    if (!context->log) {
        snprintf(why, 256, LOG_VARIABLE " %.150s: %s", path, strerror(errno));
        return -1;
    }
    setvbuf(context->log, NULL, _IOLBF, 0);
    if (ftell(context->log) == 0)
        fprintf(context->log,
                "gpu\tM\tN\tK\ttype\ttransposed\tC\tepilogue\tfused\tsplit\tms\tstatus\t"
                "chosen\n");
    return 0;
}

struct gemm_context *gemm_new(struct device *, char why[256])
{
    struct gemm_context *context =
        static_cast<struct gemm_context *>(calloc(1, sizeof(struct gemm_context)));
    if (!context) {
        snprintf(why, 256, "out of memory");
        return NULL;
    }
    const cublasStatus_t status = cublasLtCreate(&context->handle);
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < 2 && status == CUBLAS_STATUS_SUCCESS && error == cudaSuccess; i++)
        error = cudaMalloc(&context->workspaces[i], WORKSPACE);
    if (status != CUBLAS_STATUS_SUCCESS)
        snprintf(why, 256, "cuBLASLt can't be started: %s", cublasLtGetStatusString(status));
    else if (error != cudaSuccess)
        snprintf(why, 256, "64 MB of working memory for cuBLASLt: %s", cudaGetErrorString(error));
    else if (open_log(context, why) == 0)
        return context;
    cudaGetLastError();
    gemm_free(context);
    return NULL;
}

void gemm_free(struct gemm_context *context)
{
    if (context->handle)
        cublasLtDestroy(context->handle);
    for (void *workspace : context->workspaces)
        cudaFree(workspace);
    if (context->log)
        fclose(context->log);
    free(context);
}
