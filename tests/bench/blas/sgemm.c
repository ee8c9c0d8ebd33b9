// Prints the GFLOP/s of a BLAS library, with its own threads, for products of DiT's shapes: forward
// y (R,O) = x (R,I) w^T, gradients dx = dy w and dw = dy^T x. blas.sh compiles it once for each
// library. SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef ONEDNN
#include <dnnl.h>
#else
#include <cblas.h>
#endif

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// c (M,N) = a b, with a (M,K) or its transpose (K,M), and b (K,N) or its transpose (N,K).
static void multiply(float *c, const float *a, int a_t, const float *b, int b_t, int M, int N,
                     int K)
{
    const int lda = a_t ? M : K, ldb = b_t ? K : N;
#ifdef ONEDNN
    dnnl_sgemm(a_t ? 'T' : 'N', b_t ? 'T' : 'N', M, N, K, 1, a, lda, b, ldb, 0, c, N);
#else
    cblas_sgemm(CblasRowMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans, M,
                N, K, 1, a, lda, b, ldb, 0, c, N);
#endif
}

static double rate(int a_t, int b_t, int M, int N, int K)
{
    float *a = calloc((size_t)M * K, sizeof *a), *b = calloc((size_t)K * N, sizeof *b);
    float *c = calloc((size_t)M * N, sizeof *c);
    double best = 0, flops = 2.0 * M * N * K;
    if (!a || !b || !c)
        exit(70);
    for (size_t i = 0; i < (size_t)M * K; i++)
        a[i] = (float)(i % 17) - 8;
    for (size_t i = 0; i < (size_t)K * N; i++)
        b[i] = (float)(i % 13) - 6;
    for (int attempt = 0; attempt < 30; attempt++) {
        double start = seconds();
        multiply(c, a, a_t, b, b_t, M, N, K);
        double got = 1e-9 * flops / (seconds() - start);
        best = got > best ? got : best;
    }
    free(a), free(b), free(c);
    return best;
}

int main(void)
{
    static const int shapes[][3] = {// R, I, O
                                    {2048, 384, 1152}, {2048, 384, 384},  {2048, 384, 1536},
                                    {2048, 1536, 384}, {2048, 768, 2304}, {2048, 3072, 768},
                                    {512, 384, 1152},  {8, 384, 28416}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int R = shapes[i][0], In = shapes[i][1], O = shapes[i][2];
        printf("%5d rows %5d -> %5d: %6.1f forward, %6.1f input's gradient, %6.1f weight's\n", R,
               In, O, rate(0, 1, R, O, In), rate(0, 0, R, In, O), rate(1, 0, O, In, R));
    }
}
