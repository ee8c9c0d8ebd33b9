// Prints what this machine can do: the peak of fused multiply-adds and of copying memory, in all
// threads (or those of the first argument). SPDX-License-Identifier: MIT
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
typedef float vec __attribute__((vector_size(4 * LANES)));

static volatile float sink;

// 10 independent chains of multiply-adds: enough to hide the latency of two pipes.
#if defined __x86_64__
__attribute__((target("avx2,fma")))
#endif
static void
multiply_add(size_t n)
{
    vec s[10], a, b;
    for (int i = 0; i < LANES; i++)
        a[i] = 0.999f, b[i] = 1e-3f;
    for (int i = 0; i < 10; i++)
        s[i] = a * (float)i;
    for (size_t k = 0; k < n; k++)
#pragma GCC unroll 10
        for (int i = 0; i < 10; i++) {
#if defined __x86_64__
            __asm__("vfmadd213ps %2, %1, %0" : "+x"(s[i]) : "x"(a), "x"(b));
#else
            s[i] = s[i] * a + b;
#endif
        }
    for (int i = 1; i < 10; i++)
        s[0] += s[i];
    sink = s[0][0];
}

static double best_of(int tries, void (*run)(void *), void *arg)
{
    double best = 1e30;
    for (int i = 0; i < tries; i++) {
        double start = omp_get_wtime();
        run(arg);
        double seconds = omp_get_wtime() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

#define FMA_COUNT ((size_t)20000000)
static void run_fma(void *arg)
{
#pragma omp parallel num_threads(*(int *)arg)
    multiply_add(FMA_COUNT);
}

struct copy {
    int threads;
    char *to, *from;
    size_t size;
};
static void run_copy(void *arg)
{
    struct copy *c = arg;
#pragma omp parallel num_threads(c->threads)
    {
        size_t n = (size_t)omp_get_num_threads(), i = (size_t)omp_get_thread_num();
        size_t first = c->size * i / n, end = c->size * (i + 1) / n;
        memcpy(c->to + first, c->from + first, end - first);
    }
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : omp_get_max_threads();
    if (threads < 1)
        return fputs("usage: peak [THREADS]\n", stderr), 64;
    for (int n = 1; n <= threads; n = n < threads ? threads : n + 1) {
        double flop = 2.0 * LANES * 10 * FMA_COUNT * n;
        printf("%d thread%s: %.1f GFLOP/s of float32 multiply-adds", n, n > 1 ? "s" : "",
               flop / best_of(5, run_fma, &n) / 1e9);
        for (size_t size = (size_t)4 << 20; size <= (size_t)256 << 20; size *= 64) {
            struct copy copy = {n, malloc(size), malloc(size), size};
            if (!copy.to || !copy.from)
                return fputs("peak: out of memory\n", stderr), 70;
            memset(copy.from, 1, size);
            memset(copy.to, 1, size);
            printf(", copy %zu MB %.1f GB/s", size >> 20,
                   2.0 * (double)size / best_of(8, run_copy, &copy) / 1e9);
            free(copy.to);
            free(copy.from);
        }
        printf("\n");
    }
}
