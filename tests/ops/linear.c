// Tests of linear layers and their gradients. SPDX-License-Identifier: MIT
#include <math.h>

#include "tests/ops/check.h"

// n: rows, inputs, outputs. Odd sizes, whole tiles, the widths of DiT-S and XL, one row (sampling).
static void linear_cases(struct check *check, check_body *body, unsigned flags)
{
    CASES(check, body, flags, {1, 1, 1}, {1, 3, 2}, {5, 7, 3}, {7, 48, 17}, {16, 16, 16},
          {33, 144, 50}, {64, 64, 72}, {1, 384, 257}, {5, 1152, 33}, {3, 33, 1153}, {130, 13, 31},
          {151, 400, 37}, {400, 37, 151});
}

enum { BIAS = 1, PRE = 2, STRIDE = 2 };

static double weight_spread(size_t inputs)
{
    return 1 / sqrt((double)inputs);
}

static void linear(struct check *check, const size_t *n)
{
    const size_t R = n[0], I = n[1], O = n[2];
    const act *x = in_act(check, R * I, 1), *w = in_act(check, O * I, weight_spread(I));
    const act *b = n[FLAGS] & BIAS ? in_act(check, O, 1) : NULL;
    const size_t stride = n[FLAGS] & STRIDE ? O + 5 : O;
    act *y = check_buffer(check, n[FLAGS] & STRIDE ? PARTS : OUT, ACT, NULL, R * stride, 0);
    check->flops = 2.0 * (double)(R * I * O);
    RUN(check, linear, y, stride, x, w, b, R, I, O);
    check_product(check, &(struct product){R, O, I, y, x, w, stride, I, 1, 1, I, .bias = b});
}

void test_linear(struct check *check)
{
    linear_cases(check, linear, 2);
    BENCH(check, linear, BIAS, {2048, 384, 1152});
    BENCH(check, linear, BIAS, {2048, 384, 384});
    BENCH(check, linear, BIAS, {2048, 1536, 384});
    BENCH(check, linear, BIAS, {8, 384, 2304});
    BENCH_GPU(check, linear, BIAS, {65536, 1152, 3456});
    BENCH_GPU(check, linear, BIAS, {65536, 1152, 1152});
    BENCH_GPU(check, linear, BIAS, {65536, 4608, 1152});
    BENCH_GPU(check, linear, BIAS, {65536, 1152, 32});
    BENCH_GPU(check, linear, BIAS, {256, 1152, 193536});
}

static void linear_gelu(struct check *check, const size_t *n)
{
    const size_t R = n[0], I = n[1], O = n[2];
    // The spread is so wide that the GELU saturates on both sides.
    const act *x = in_act(check, R * I, 4), *w = in_act(check, O * I, weight_spread(I));
    const act *b = n[FLAGS] & BIAS ? in_act(check, O, 4) : NULL;
    act *pre = n[FLAGS] & PRE ? out_act(check, R * O) : NULL, *y = out_act(check, R * O);
    check->flops = 2.0 * (double)(R * I * O);
    // GELU's input p is rounded, by which gelu(p) is off relatively by p gelu'(p) / gelu(p) times
    // as much: without bound for negative p, where p gelu'(p) remains below 0.2.
    check->floor = 0.2;
    RUN(check, linear_gelu, y, pre, x, w, b, R, I, O);
    check_product(check,
                  &(struct product){R, O, I, y, x, w, O, I, 1, 1, I, .bias = b, .gelu = true});
}

void test_linear_gelu(struct check *check)
{
    linear_cases(check, linear_gelu, 2);
    BENCH(check, linear_gelu, BIAS | PRE, {2048, 384, 1536});
    BENCH_GPU(check, linear_gelu, BIAS | PRE, {65536, 1152, 4608});
}

static void linear_backward_input(struct check *check, const size_t *n)
{
    const size_t R = n[0], I = n[1], O = n[2];
    const act *dy = in_act(check, R * O, 1), *w = in_act(check, O * I, weight_spread(O));
    act *dx = out_act(check, R * I);
    check->flops = 2.0 * (double)(R * I * O);
    RUN(check, linear_backward_input, dx, dy, w, R, I, O);
    check_product(check, &(struct product){R, I, O, dx, dy, w, I, O, 1, I, 1, .bias = NULL});
}

void test_linear_backward_input(struct check *check)
{
    linear_cases(check, linear_backward_input, 0);
    BENCH(check, linear_backward_input, 0, {2048, 384, 1152});
    BENCH_GPU(check, linear_backward_input, 0, {65536, 1152, 3456});
    BENCH_GPU(check, linear_backward_input, 0, {65536, 1152, 1152});
    BENCH_GPU(check, linear_backward_input, 0, {65536, 1152, 4608});
    BENCH_GPU(check, linear_backward_input, 0, {256, 1152, 193536});
}

static void linear_backward_input_gelu(struct check *check, const size_t *n)
{
    const size_t R = n[0], I = n[1], O = n[2];
    const act *dy = in_act(check, R * O, 1), *w = in_act(check, O * I, weight_spread(O));
    const act *pre = in_act(check, R * I, 4);
    act *dpre = out_act(check, R * I);
    check->flops = 2.0 * (double)(R * I * O);
    RUN(check, linear_backward_input_gelu, dpre, dy, w, pre, R, I, O);
    check_product(check, &(struct product){R, I, O, dpre, dy, w, I, O, 1, I, 1, .pre = pre});
}

void test_linear_backward_input_gelu(struct check *check)
{
    linear_cases(check, linear_backward_input_gelu, 0);
    BENCH(check, linear_backward_input_gelu, 0, {2048, 1536, 384});
    BENCH_GPU(check, linear_backward_input_gelu, 0, {65536, 4608, 1152});
}

static void linear_backward_weight(struct check *check, const size_t *n)
{
    const size_t R = n[0], I = n[1], O = n[2];
    const act *dy = in_act(check, R * O, 1), *x = in_act(check, R * I, 1);
    float *dw = inout_f32(check, O * I, 1), *db = n[FLAGS] & BIAS ? inout_f32(check, O, 1) : NULL;
    check->flops = 2.0 * (double)(R * I * O);
    RUN(check, linear_backward_weight, dw, db, dy, x, R, I, O);
    check_product(check, &(struct product){O, I, R, dw, dy, x, I, 1, O, I, 1, .accumulates = true});
}

void test_linear_backward_weight(struct check *check)
{
    linear_cases(check, linear_backward_weight, 1);
    BENCH(check, linear_backward_weight, BIAS, {2048, 384, 1152});
    BENCH(check, linear_backward_weight, BIAS, {8, 384, 2304});
    BENCH_GPU(check, linear_backward_weight, BIAS, {65536, 1152, 3456});
    BENCH_GPU(check, linear_backward_weight, BIAS, {65536, 1152, 1152});
    BENCH_GPU(check, linear_backward_weight, BIAS, {65536, 1152, 4608});
    BENCH_GPU(check, linear_backward_weight, BIAS, {65536, 4608, 1152});
    BENCH_GPU(check, linear_backward_weight, BIAS, {256, 1152, 193536});
}
