// SPDX-License-Identifier: MIT
#include "tests/ops/check.h"

// n: B, T, D, what a row of the modulation holds beside its parts of D.
static void norm_cases(struct check *check, check_body *body, unsigned flags)
{
    CASES(check, body, flags, {1, 1, 1}, {1, 2, 4}, {2, 3, 5, 1}, {3, 4, 17, 3}, {2, 16, 48},
          {1, 5, 144}, {3, 3, 384, 7}, {2, 2, 1152}, {1, 3, 1155});
}

enum { SAVED = 1, IN_PLACE = 1, DSUM = 2 };

// A matrix (B, parts D + extra) of modulations; part k is `modulation + k D`.
static size_t modulation_stride(const size_t *n, size_t parts)
{
    return parts * n[2] + n[3];
}

// What a backward pass reads and writes: matrices of (B,T,D), beside which the rest is small.
static double bytes_of_rows(const struct check *check, const size_t *n, size_t matrices)
{
    return (double)(matrices * n[0] * n[1] * n[2] * check->device->backend->act_size);
}

static void norm_modulate(struct check *check, const size_t *n)
{
    const size_t B = n[0], T = n[1], D = n[2], stride = modulation_stride(n, 2);
    const act *x = in_act(check, B * T * D, 3), *shift = in_act(check, B * stride, 1);
    const act *scale = act_at(check->device, shift, D);
    act *y = out_act(check, B * T * D);
    float *mean = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    float *rstd = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    RUN(check, norm_modulate, y, mean, rstd, x, shift, scale, stride, B, T, D);
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
    const size_t B = n[0], T = n[1], D = n[2], stride = modulation_stride(n, 2);
    const act *x = in_act(check, B * T * D, 3), *dy = in_act(check, B * T * D, 1);
    const act *shift = in_act(check, B * stride, 1), *scale = act_at(check->device, shift, D);
    float *mean = out_f32(check, B * T), *rstd = out_f32(check, B * T);
    act *y = out_act(check, B * T * D);
    act *dx = n[FLAGS] & DSUM && n[FLAGS] & IN_PLACE ? inout_act(check, B * T * D, 1)
                                                     : out_act(check, B * T * D);
    const act *dsum = !(n[FLAGS] & DSUM)    ? NULL
                      : n[FLAGS] & IN_PLACE ? dx
                                            : in_act(check, B * T * D, 1);
    act *dshift = check_buffer(check, PARTS, ACT, NULL, B * stride, 0);
    act *dscale = act_at(check->device, dshift, D);
    op_norm_modulate(check->device, y, mean, rstd, x, shift, scale, stride, B, T, D);
    check->bytes = bytes_of_rows(check, n, n[FLAGS] & DSUM ? 4 : 3);
    RUN(check, norm_modulate_backward, dx, dshift, dscale, dy, dsum, x, mean, rstd, scale, stride,
        B, T, D);
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
    const size_t B = n[0], T = n[1], D = n[2], stride = modulation_stride(n, 3);
    const act *branch = in_act(check, B * T * D, 1), *gate = in_act(check, B * stride, 1);
    const act *shift = act_at(check->device, gate, D), *scale = act_at(check->device, gate, 2 * D);
    act *sum = n[FLAGS] & 2 ? inout_act(check, B * T * D, 3) : out_act(check, B * T * D);
    const act *x = n[FLAGS] & 2 ? sum : in_act(check, B * T * D, 3);
    act *y = out_act(check, B * T * D);
    float *mean = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    float *rstd = n[FLAGS] & SAVED ? out_f32(check, B * T) : NULL;
    RUN(check, gate_residual_norm_modulate, sum, y, mean, rstd, x, branch, gate, shift, scale,
        stride, B, T, D);
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
    const size_t B = n[0], T = n[1], D = n[2], stride = modulation_stride(n, 3);
    const act *x = in_act(check, B * T * D, 3), *dy = in_act(check, B * T * D, 1);
    const act *branch = in_act(check, B * T * D, 1), *gate = in_act(check, B * stride, 1);
    const act *shift = act_at(check->device, gate, D), *scale = act_at(check->device, gate, 2 * D);
    float *mean = out_f32(check, B * T), *rstd = out_f32(check, B * T);
    act *sum = out_act(check, B * T * D), *y = out_act(check, B * T * D);
    act *dx = n[FLAGS] & DSUM && n[FLAGS] & IN_PLACE ? inout_act(check, B * T * D, 1)
                                                     : out_act(check, B * T * D);
    const act *dsum = !(n[FLAGS] & DSUM)    ? NULL
                      : n[FLAGS] & IN_PLACE ? dx
                                            : in_act(check, B * T * D, 1);
    act *dbranch = out_act(check, B * T * D);
    act *dgate = check_buffer(check, PARTS, ACT, NULL, B * stride, 0);
    act *dshift = act_at(check->device, dgate, D), *dscale = act_at(check->device, dgate, 2 * D);
    op_gate_residual_norm_modulate(check->device, sum, y, mean, rstd, x, branch, gate, shift, scale,
                                   stride, B, T, D);
    check->bytes = bytes_of_rows(check, n, n[FLAGS] & DSUM ? 6 : 5);
    RUN(check, gate_residual_norm_modulate_backward, dx, dbranch, dgate, dshift, dscale, dy, dsum,
        sum, mean, rstd, branch, gate, scale, stride, B, T, D);
}

void test_gate_residual_norm_modulate_backward(struct check *check)
{
    norm_cases(check, gate_residual_norm_modulate_backward, 2);
    BENCH(check, gate_residual_norm_modulate_backward, DSUM | IN_PLACE, {8, 256, 384});
    BENCH_GPU(check, gate_residual_norm_modulate_backward, DSUM | IN_PLACE, {256, 256, 1152});
}
