// Matrix products, by cuBLASLt (gemm-cublaslt.cu); in the simulator by plain loops
// (tests/cudasim/gemm.cc). SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_GEMM_H
#define DIT_CUDA_GEMM_H

#include "kernels/cuda/backend.h"

enum gemm_finish {
    GEMM_PLAIN,
    GEMM_BIAS,       // C += bias (N)
    GEMM_BIAS_GELU,  // aux = C + bias, unless aux is NULL; C = gelu(C + bias), by tanh
    GEMM_GELU_SLOPE, // C *= gelu'(aux)
};

// C (M,N) = A (M,K) B (K,N), then finish. All are rows of `..._row` elements; a transposed matrix
// is stored as its transpose. A, B, bias and aux are bfloat16 (bits 16) or float32 (32); sums are
// float32.
struct gemm {
    int bits;
    size_t M, N, K;
    const void *a, *b;
    size_t a_row, b_row;
    bool a_transposed, b_transposed;
    void *c;
    size_t c_row;
    bool c_float;    // C is float32, whatever bits is
    bool accumulate; // C += A B
    enum gemm_finish finish;
    const void *bias;
    void *aux; // rows of c_row; read by GEMM_GELU_SLOPE
};

// NULL with a message in why.
struct gemm_context *gemm_new(struct device *device, char why[256]);
void gemm_free(struct gemm_context *context);
// Sets the device's error. Which of cuBLASLt's algorithms is the fastest for a shape is measured
// when the shape is first seen (not while recording), and kept.
void gemm_run(struct device *device, const struct gemm *gemm);

#endif
