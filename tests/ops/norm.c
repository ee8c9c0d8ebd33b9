// Tests of LayerNorm with modulation and gates, and its gradients. SPDX-License-Identifier: MIT
#include <math.h>

#include "tests/ops/check.h"

// n: B, T, D, extra: what a row of the modulation holds beside its vectors of D.
static void norm_cases(struct check *check, check_body *body, unsigned flags)
{
    CASES(check, body, flags, {1, 1, 1}, {1, 2, 4}, {2, 3, 5, 1}, {3, 4, 17, 3}, {2, 16, 48},
          {1, 5, 144}, {3, 3, 384, 7}, {2, 2, 1152}, {1, 3, 1155});
}

enum { SAVED = 1, IN_PLACE = 1, DSUM = 2 };

// The rows of a matrix (B, parts D + extra) as shift, scale and, where there are three parts, gate.
static struct modulation modulation_of(struct check *check, const act *rows, const size_t *n,
                                       size_t parts)
{
    return (struct modulation){.shift = act_at(check->device, rows, 0),
                               .scale = act_at(check->device, rows, n[2]),
                               .gate = parts == 3 ? act_at(check->device, rows, 2 * n[2]) : NULL,
                               .stride = parts * n[2] + n[3]};
}
static struct modulation in_modulation(struct check *check, const size_t *n, size_t parts)
{
    const act *rows = in_act(check, n[0] * (parts * n[2] + n[3]), 1);
    return modulation_of(check, rows, n, parts);
}
static struct modulation out_modulation(struct check *check, const size_t *n, size_t parts)
{
    const act *rows = check_buffer(check, PARTS, ACT, NULL, n[0] * (parts * n[2] + n[3]), 0);
    return modulation_of(check, rows, n, parts);
}

// What a backward pass reads and writes: matrices of (B,T,D), beside which the rest is small.
static double bytes_of_rows(const struct check *check, const size_t *n, size_t matrices)
{
    return (double)(matrices * n[0] * n[1] * n[2] * check->device->backend->act_size);
}

static void norm_modulate(struct check *check, const size_t *n)
{
    const size_t B = n[0], T = n[1], D = n[2];
    const act *x = in_act(check, B * T * D, 3);
    const struct modulation m = in_modulation(check, n, 2);
    act *y = out_act(check, B * T * D);
    float *mean = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    float *rstd = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    RUN(check, norm_modulate, y, mean, rstd, x, m, B, T, D);
}

void test_norm_modulate(struct check *check)
{
    norm_cases(check, norm_modulate, 1);
    BENCH(check, norm_modulate, SAVED, {8, 256, 384});
    BENCH_GPU(check, norm_modulate, SAVED, {256, 256, 1152});
}

// Flags: with DSUM, also IN_PLACE: dx is dsum.
static void norm_modulate_backward(struct check *check, const size_t *n)
{
    const size_t B = n[0], T = n[1], D = n[2];
    const act *x = in_act(check, B * T * D, 3), *dy = in_act(check, B * T * D, 1);
    const struct modulation m = in_modulation(check, n, 2);
    float *mean = out_f32(check, B * T), *rstd = out_f32(check, B * T);
    act *y = out_act(check, B * T * D);
    act *dx = n[FLAGS] & DSUM && n[FLAGS] & IN_PLACE ? inout_act(check, B * T * D, 1)
                                                     : out_act(check, B * T * D);
    const act *dsum = !(n[FLAGS] & DSUM)    ? NULL
                      : n[FLAGS] & IN_PLACE ? dx
                                            : in_act(check, B * T * D, 1);
    const struct modulation dm = out_modulation(check, n, 2);
    op_norm_modulate(check->device, y, mean, rstd, x, m, B, T, D);
    check->bytes = bytes_of_rows(check, n, n[FLAGS] & DSUM ? 4 : 3);
    RUN(check, norm_modulate_backward, dx, dm, dy, dsum, x, mean, rstd, m, B, T, D);
}

void test_norm_modulate_backward(struct check *check)
{
    norm_cases(check, norm_modulate_backward, 2);
    BENCH(check, norm_modulate_backward, DSUM | IN_PLACE, {8, 256, 384});
    BENCH_GPU(check, norm_modulate_backward, DSUM | IN_PLACE, {256, 256, 1152});
}

// Flags: SAVED, and 2: sum is x.
static void gate_residual_norm_modulate(struct check *check, const size_t *n)
{
    const size_t B = n[0], T = n[1], D = n[2];
    const act *branch = in_act(check, B * T * D, 1);
    const struct modulation m = in_modulation(check, n, 3);
    act *sum = n[FLAGS] & 2 ? inout_act(check, B * T * D, 3) : out_act(check, B * T * D);
    const act *x = n[FLAGS] & 2 ? sum : in_act(check, B * T * D, 3);
    act *y = out_act(check, B * T * D);
    float *mean = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    float *rstd = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    // The sum is rounded before its mean is taken. That is as inexact if it happens to be near 0 as
    // one of the usual size, the spread of 3 or more through the root of the count.
    check->floor = 3 / sqrt((double)D);
    RUN(check, gate_residual_norm_modulate, sum, y, mean, rstd, x, branch, m, B, T, D);
}

void test_gate_residual_norm_modulate(struct check *check)
{
    norm_cases(check, gate_residual_norm_modulate, 2);
    BENCH(check, gate_residual_norm_modulate, SAVED, {8, 256, 384});
    BENCH_GPU(check, gate_residual_norm_modulate, SAVED, {256, 256, 1152});
}

// Flags as in norm_modulate_backward.
static void gate_residual_norm_modulate_backward(struct check *check, const size_t *n)
{
    const size_t B = n[0], T = n[1], D = n[2];
    const act *x = in_act(check, B * T * D, 3), *dy = in_act(check, B * T * D, 1);
    const act *branch = in_act(check, B * T * D, 1);
    const struct modulation m = in_modulation(check, n, 3);
    float *mean = out_f32(check, B * T), *rstd = out_f32(check, B * T);
    act *sum = out_act(check, B * T * D), *y = out_act(check, B * T * D);
    act *dx = n[FLAGS] & DSUM && n[FLAGS] & IN_PLACE ? inout_act(check, B * T * D, 1)
                                                     : out_act(check, B * T * D);
    const act *dsum = !(n[FLAGS] & DSUM)    ? NULL
                      : n[FLAGS] & IN_PLACE ? dx
                                            : in_act(check, B * T * D, 1);
    act *dbranch = out_act(check, B * T * D);
    const struct modulation dm = out_modulation(check, n, 3);
    op_gate_residual_norm_modulate(check->device, sum, y, mean, rstd, x, branch, m, B, T, D);
    check_share(check, sum); // a row of numbers that lie close together magnifies their rounding
    check_share(check, mean);
    check_share(check, rstd);
    check->bytes = bytes_of_rows(check, n, n[FLAGS] & DSUM ? 6 : 5);
    RUN(check, gate_residual_norm_modulate_backward, dx, dbranch, dm, dy, dsum, sum, mean, rstd,
        branch, m, B, T, D);
}

void test_gate_residual_norm_modulate_backward(struct check *check)
{
    norm_cases(check, gate_residual_norm_modulate_backward, 2);
    BENCH(check, gate_residual_norm_modulate_backward, DSUM | IN_PLACE, {8, 256, 384});
    BENCH_GPU(check, gate_residual_norm_modulate_backward, DSUM | IN_PLACE, {256, 256, 1152});
}
