// Tests of the operations on single elements. SPDX-License-Identifier: MIT
#include <math.h>

#include "tests/ops/check.h"

// n: length, spread.
static void length_cases(struct check *check, check_body *body)
{
    CASES(check, body, 0, {1, 1}, {7, 1}, {8, 1}, {31, 1}, {1003, 1}, {7, 20}, {1003, 20});
}

static void silu(struct check *check, const size_t *n)
{
    const act *x = in_act(check, n[0], (double)n[1]);
    act *y = out_act(check, n[0]);
    RUN(check, silu, y, x, n[0]);
}

void test_silu(struct check *check)
{
    length_cases(check, silu);
    BENCH(check, silu, 0, {1 << 20, 1});
}

static void gelu(struct check *check, const size_t *n)
{
    const act *x = in_act(check, n[0], (double)n[1]);
    act *y = out_act(check, n[0]);
    RUN(check, gelu, y, x, n[0]);
}

void test_gelu(struct check *check)
{
    length_cases(check, gelu);
    BENCH(check, gelu, 0, {1 << 20, 1});
    BENCH_GPU(check, gelu, 0, {(size_t)65536 * 4608, 1});
}

static void silu_backward(struct check *check, const size_t *n)
{
    const act *x = in_act(check, n[0], (double)n[1]), *dy = in_act(check, n[0], 1);
    act *dx = out_act(check, n[0]);
    RUN(check, silu_backward, dx, dy, x, n[0]);
}

void test_silu_backward(struct check *check)
{
    length_cases(check, silu_backward);
    BENCH(check, silu_backward, 0, {1 << 20, 1});
}

static void add_row(struct check *check, const size_t *n)
{
    act *x = inout_act(check, n[0] * n[1], 1);
    const act *row = in_act(check, n[1], 1);
    RUN(check, add_row, x, row, n[0], n[1]);
}

void test_add_row(struct check *check)
{
    CASES(check, add_row, 0, {1, 1}, {3, 7}, {2, 768}, {5, 1001});
    BENCH(check, add_row, 0, {8, 256 * 384});
    BENCH_GPU(check, add_row, 0, {256, 256 * 1152});
}

static void to_act(struct check *check, const size_t *n)
{
    const float *x = in_f32(check, n[0], (double)n[1]);
    act *y = out_act(check, n[0]);
    RUN(check, to_act, y, x, n[0]);
}

void test_to_act(struct check *check)
{
    length_cases(check, to_act);
    BENCH(check, to_act, 0, {1 << 22, 1});
}
