// One harness that tests and measures the operations of every backend, after dav1d's checkasm.
// SPDX-License-Identifier: MIT
//
// The test of an operation is test_NAME. It lists cases (sizes) and a body that makes the buffers
// and runs the operation on them. The harness runs the body on the ref device and on the one under
// test, with the same contents, and compares every buffer:
//
//     static void silu(struct check *check, const size_t *n)
//     {
//         const act *x = in_act(check, n[0], 1);
//         act *y = out_act(check, n[0]);
//         RUN(check, silu, y, x, n[0]);
//     }
//     void test_silu(struct check *check)
//     {
//         CASES(check, silu, 0, {1}, {1003});
//         BENCH(check, silu, 0, {1 << 20});
//     }
//
// Guards of NaN around every buffer must stay as they are, and outputs hold NaN before the run. A
// case that runs no operation, or compares no output, fails.
#ifndef DIT_CHECK_H
#define DIT_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

struct check {
    struct device *device; // on which the body runs
    double flops;          // floating-point operations of the run, if the body sets it
    double bytes;  // bytes that the run reads and writes, if the body sets it; else all buffers
    double floor;  // errors of smaller outputs are relative to it, if the body sets it
    bool wild;     // contents vary over many orders of magnitude
    bool narrow;   // activations of the device under test have 16 bits
    uint64_t seed; // for operations that draw random numbers
    struct session *session; // the harness's own
};

#define OP(name, cpu, params, args) void test_##name(struct check *check);
#include "kernels/ops.def"
#undef OP

// Runs the operation once, or many times when it is measured.
#define RUN(check, name, ...)                     \
    for (check_begin(check); check_again(check);) \
    op_##name((check)->device, __VA_ARGS__)

#define SIZES 6
#define FLAGS (SIZES - 1) // n[FLAGS] holds the flags
typedef void check_body(struct check *check, const size_t *n);

#define COUNT(...) (sizeof(__VA_ARGS__) / sizeof(*(__VA_ARGS__)))
// Runs every case with each combination of `flags` bits in n[FLAGS].
#define CASES(check, body, flags, ...)                                                         \
    check_cases(check, body, NULL, (size_t)1 << (flags), (const size_t[][SIZES]){__VA_ARGS__}, \
                COUNT((const size_t[][SIZES]){__VA_ARGS__}))
// Runs every case with each value of the array `flag_sets` in n[FLAGS].
#define CASES_OF(check, body, flag_sets, ...)                                                   \
    check_cases(check, body, flag_sets, COUNT(flag_sets), (const size_t[][SIZES]){__VA_ARGS__}, \
                COUNT((const size_t[][SIZES]){__VA_ARGS__}))
// Measures one case with these flags.
#define BENCH(check, body, flags, ...) \
    check_bench(check, body, flags, (const size_t[SIZES])__VA_ARGS__)
// The same, but only on a GPU: the sizes of DiT-XL/2 with 256 samples take too long on a CPU.
#define BENCH_GPU(check, body, flags, ...) \
    check_bench_gpu(check, body, flags, (const size_t[SIZES])__VA_ARGS__)

void check_cases(struct check *check, check_body *body, const size_t *flag_sets, size_t n_sets,
                 const size_t cases[][SIZES], size_t n_cases);
void check_bench(struct check *check, check_body *body, unsigned flags, const size_t n[SIZES]);
void check_bench_gpu(struct check *check, check_body *body, unsigned flags, const size_t n[SIZES]);
void check_begin(struct check *check);
bool check_again(struct check *check);

enum use {
    IN,      // must not change
    OUT,     // every element is written
    PARTS,   // written in parts, such as rows with a stride
    INOUT,   // read and written
    SCRATCH, // may hold anything afterwards
};
enum type { ACT, F32, F64, U8, RAW };

// A buffer of n elements on the device. It holds a copy of `contents`, converted from float for
// ACT. If that is NULL, an IN or INOUT buffer holds normally distributed numbers with standard
// deviation `spread`, or their absolute values if spread is negative. The harness frees it.
void *check_buffer(struct check *check, enum use use, enum type type, const void *contents,
                   size_t n, double spread);

// Gives both devices the same contents of a buffer that the body computed before RUN: ref's,
// rounded to the activations of the device under test. Otherwise the rounding of this intermediate
// result would count as an error of the operation that reads it, however much that magnifies it.
void check_share(struct check *check, const void *buffer);

static inline const act *in_act(struct check *check, size_t n, double spread)
{
    return check_buffer(check, IN, ACT, NULL, n, spread);
}
static inline act *inout_act(struct check *check, size_t n, double spread)
{
    return check_buffer(check, INOUT, ACT, NULL, n, spread);
}
static inline act *out_act(struct check *check, size_t n)
{
    return check_buffer(check, OUT, ACT, NULL, n, 0);
}
static inline const float *in_f32(struct check *check, size_t n, double spread)
{
    return check_buffer(check, IN, F32, NULL, n, spread);
}
static inline float *inout_f32(struct check *check, size_t n, double spread)
{
    return check_buffer(check, INOUT, F32, NULL, n, spread);
}
static inline float *out_f32(struct check *check, size_t n)
{
    return check_buffer(check, OUT, F32, NULL, n, 0);
}
// `size` bytes, copied as they are: labels, terms.
static inline const void *in_raw(struct check *check, const void *contents, size_t size)
{
    return check_buffer(check, IN, RAW, contents, size, 0);
}
static inline void *out_raw(struct check *check, size_t size)
{
    return check_buffer(check, OUT, RAW, NULL, size, 0);
}

// For bodies that check results by themselves, after RUN. Buffers are those that the body has made.

// Reports that the case is wrong.
void check_complain(struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// The i-th element before the run, and now; the latter waits for the device.
double check_value_before(const struct check *check, const void *buffer, size_t i);
double check_value_now(const struct check *check, const void *buffer, size_t i);
// How often RUN has run the operation.
size_t check_runs(const struct check *check);
// The limit of the relative error, of a whole buffer in the L2 norm. One element may be off by ten
// times as much of its own magnitude plus the buffer's root mean square. `floor` adds to the
// latter.
double check_tolerance(const struct check *check);

// Checks some elements of a product that the device has computed against plain sums. c (M,N) = a
// (M,K) b (K,N) + bias (N), or with `accumulates` c += a b in each run; then y = gelu(c), or c *=
// gelu'(pre). The matrices are buffers of the body, with these distances between rows and columns
// in elements.
struct product {
    size_t M, N, K;
    const void *c, *a, *b;
    size_t c_row, a_row, a_column, b_row, b_column;
    const void *bias; // or NULL
    const void *pre;  // or NULL; (M,N) like c
    bool gelu, accumulates;
};
void check_product(struct check *check, const struct product *product);

#endif
