// Tests of AdamW and the norm of the gradient. SPDX-License-Identifier: MIT
#include <math.h>

#include "tests/ops/check.h"

static void sum_squares(struct check *check, const size_t *n)
{
    const float *x = in_f32(check, n[0], 1);
    double *sum = check_buffer(check, OUT, F64, NULL, 1, 0);
    RUN(check, sum_squares, sum, x, n[0]);
}

void test_sum_squares(struct check *check)
{
    CASES(check, sum_squares, 0, {1}, {7}, {64}, {1003}, {100001});
    BENCH(check, sum_squares, 0, {1 << 22});
    BENCH_GPU(check, sum_squares, 0, {1 << 26});
}

// n: parameters, number of the step, 1 if the norm of the gradient is not finite.
// Flags: 1, value is w itself (if activations are float32); 2, the gradient is clipped.
static void adamw(struct check *check, const size_t *n)
{
    const struct adamw settings = {.lr = 1e-2f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.999f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.1f,
                                   .max_norm = n[FLAGS] & 2 ? 0.5f : 0,
                                   .ema_decay = 0.9999,
                                   .step = n[1]};
    const double norm = n[2] ? INFINITY : 7.25;
    const double *norm2 = check_buffer(check, IN, RAW, &norm, sizeof norm, 0);
    float *w = inout_f32(check, n[0], 1), *ema = inout_f32(check, n[0], 1);
    float *m = inout_f32(check, n[0], 0.1), *v = inout_f32(check, n[0], -0.1);
    const float *g = in_f32(check, n[0], 1);
    bool in_place = n[FLAGS] & 1 && check->device->backend->act_size == sizeof(float);
    act *value = in_place ? (act *)(void *)w : inout_act(check, n[0], 1);
    RUN(check, adamw, w, value, ema, m, v, g, norm2, &settings, n[0]);
}

void test_adamw(struct check *check)
{
    CASES(check, adamw, 2, {1, 1}, {7, 2}, {64, 1000}, {1003, 5}, {16, 3, 1}, {1000, 400000});
    BENCH(check, adamw, 2, {1 << 22, 10});
    BENCH_GPU(check, adamw, 2, {1 << 26, 10});
}

// n: parameters, 1 if the norm of the gradient is not finite.
static void average(struct check *check, const size_t *n)
{
    const double norm = n[1] ? INFINITY : 7.25;
    const double *norm2 = check_buffer(check, IN, RAW, &norm, sizeof norm, 0);
    float *values = inout_f32(check, n[0], 1);
    const float *w = in_f32(check, n[0], 1);
    RUN(check, average, values, w, norm2, 0.9, n[0]);
}

void test_average(struct check *check)
{
    CASES(check, average, 0, {1}, {7}, {1003}, {16, 1}, {20000});
    BENCH(check, average, 0, {1 << 22});
}
