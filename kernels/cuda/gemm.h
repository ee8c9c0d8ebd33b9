// Matrix products, by cuBLASLt (gemm-cublaslt.cu). SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_GEMM_H
#define DIT_CUDA_GEMM_H

#include "kernels/cuda/backend.h"

enum gemm_epilogue {
    GEMM_PLAIN,
    GEMM_BIAS,      // C += bias (N)
    GEMM_BIAS_GELU, // aux = C + bias, unless aux is NULL; C = gelu(C + bias), by tanh
    GEMM_DGELU,     // C *= gelu'(aux)
};

// C (M,N) = A (M,K) B (K,N), then the epilogue. Rows are `..._row` elements apart. A transposed
// matrix is stored as its transpose. A, B, bias and aux are bfloat16 (bits 16) or float32 (bits
// 32); sums are float32.
struct gemm {
    int bits;
    size_t M, N, K;
    const void *a, *b;
    size_t a_row, b_row;
    bool a_transposed, b_transposed;
    void *c;
    size_t c_row;
    bool c_float;    // C is float32 even if bits is 16
    bool accumulate; // C += A B
    enum gemm_epilogue epilogue;
    const void *bias;
    void *aux; // rows are c_row elements apart; GEMM_DGELU reads it
};

// NULL with a message in why.
struct gemm_context *gemm_new(struct device *device, char why[256]);
void gemm_free(struct gemm_context *context);
// Runs a product, or sets the device's error. The first product of a shape times the algorithms of
// cuBLASLt, and the fastest is used from then on; if the device is deterministic, or a graph is
// being recorded, that is the first that cuBLASLt offers. $DIT_CUDA_LOG lists them all.
void gemm_run(struct device *device, const struct gemm *gemm);

// The epilogue as a kernel of its own (epilogue.cu), in bfloat16 and in float32. The product, with
// the bias already added if `biased`, is in c; that of GEMM_BIAS_GELU is in aux unless that is
// NULL.
void cuda_bf16_gemm_epilogue(struct device *device, const struct gemm *gemm, bool biased);
void cuda_f32_gemm_epilogue(struct device *device, const struct gemm *gemm, bool biased);

#endif
