// Tests of the operations of the convolutional autoencoder. SPDX-License-Identifier: MIT
#include <math.h>

#include "tests/ops/check.h"

// n: B, C, pixels.
static void channel_cases(struct check *check, check_body *body)
{
    CASES(check, body, 0, {1, 1, 1}, {2, 3, 35}, {1, 4, 64}, {3, 17, 33}, {1, 64, 48});
}

static void channels_last(struct check *check, const size_t *n)
{
    const size_t size = n[0] * n[1] * n[2];
    const float *x = in_f32(check, size, 1);
    act *y = out_act(check, size);
    RUN(check, channels_last, y, x, n[0], n[1], n[2]);
}

void test_channels_last(struct check *check)
{
    channel_cases(check, channels_last);
    BENCH(check, channels_last, 0, {1, 3, 1 << 16});
}

static void channels_first(struct check *check, const size_t *n)
{
    const size_t size = n[0] * n[1] * n[2];
    const act *y = in_act(check, size, 1);
    float *x = out_f32(check, size);
    RUN(check, channels_first, x, y, n[0], n[1], n[2]);
}

void test_channels_first(struct check *check)
{
    channel_cases(check, channels_first);
    BENCH(check, channels_first, 0, {1, 3, 1 << 16});
}

// IN_PLACE: y is sum. H and W are even with DOWN.
enum { DOWN = 1, UP = 2, SUM = 4, IN_PLACE = 8 };
static const size_t any_size[] = {0, SUM, SUM | IN_PLACE, UP, UP | SUM, UP | SUM | IN_PLACE};
static const size_t even_size[] = {DOWN, DOWN | SUM, DOWN | SUM | IN_PLACE};

// n: B, H, W, channels in and out.
static void conv3x3(struct check *check, const size_t *n)
{
    const size_t B = n[0], H = n[1], W = n[2], I = n[3], O = n[4], flags = n[FLAGS];
    const enum conv_kind kind = flags & DOWN ? CONV_DOWN : flags & UP ? CONV_UP : CONV_SAME;
    const size_t area = kind == CONV_DOWN ? H * W / 4 : kind == CONV_UP ? 4 * H * W : H * W;
    const act *x = in_act(check, B * H * W * I, 1);
    const act *w = in_act(check, O * 9 * I, 1 / sqrt(9 * (double)I)), *b = in_act(check, O, 1);
    act *y = flags & IN_PLACE ? inout_act(check, B * area * O, 1) : out_act(check, B * area * O);
    const act *sum = flags & IN_PLACE ? y : flags & SUM ? in_act(check, B * area * O, 1) : NULL;
    check->flops = 2.0 * 9 * (double)(B * area * I * O);
    RUN(check, conv3x3, y, x, w, b, sum, kind, B, H, W, I, O);
}

void test_conv3x3(struct check *check)
{
    CASES_OF(check, conv3x3, any_size, {1, 1, 1, 1, 1}, {2, 2, 4, 3, 5}, {1, 5, 7, 4, 17},
             {2, 8, 6, 13, 3}, {1, 16, 16, 32, 16}, {1, 6, 34, 33, 40}, {1, 4, 4, 130, 8},
             {2, 24, 23, 48, 32}, {1, 32, 34, 32, 48}, {1, 16, 33, 32, 64});
    CASES_OF(check, conv3x3, even_size, {2, 2, 4, 3, 5}, {2, 8, 6, 13, 3}, {1, 16, 16, 32, 16},
             {1, 6, 34, 33, 40}, {1, 4, 4, 130, 8}, {1, 32, 34, 32, 48}, {1, 34, 32, 32, 64});
    // More channels than are taken at a time, and sizes for every tile that a GPU with 4
    // multiprocessors (CUDASIM_MULTIPROCESSORS) chooses.
    static const size_t no_sum[] = {0, UP}, neither[] = {0};
    CASES_OF(check, conv3x3, no_sum, {1, 13, 25, 272, 64}, {3, 4, 5, 72, 72}, {1, 9, 17, 24, 72},
             {1, 5, 9, 24, 72});
    // The large and the medium tiles of a GPU with 132 multiprocessors.
    CASES_OF(check, conv3x3, neither, {120, 2, 3, 8, 72}, {60, 9, 3, 8, 72});
    BENCH(check, conv3x3, SUM, {1, 32, 32, 512, 512});
    BENCH(check, conv3x3, SUM, {1, 128, 128, 256, 256});
    BENCH(check, conv3x3, SUM, {1, 256, 256, 128, 128});
    BENCH(check, conv3x3, UP, {1, 128, 128, 256, 256});
    BENCH(check, conv3x3, DOWN, {1, 256, 256, 128, 128});
    BENCH(check, conv3x3, 0, {1, 256, 256, 3, 128});
    BENCH(check, conv3x3, 0, {1, 256, 256, 128, 3});
    BENCH_GPU(check, conv3x3, SUM, {8, 64, 64, 512, 512});
    BENCH_GPU(check, conv3x3, SUM, {8, 128, 128, 256, 256});
    BENCH_GPU(check, conv3x3, SUM, {8, 256, 256, 128, 128});
    BENCH_GPU(check, conv3x3, UP, {8, 128, 128, 256, 256});
    BENCH_GPU(check, conv3x3, DOWN, {8, 256, 256, 128, 128});
    BENCH_GPU(check, conv3x3, 0, {8, 256, 256, 3, 128});
    BENCH_GPU(check, conv3x3, 0, {8, 256, 256, 128, 3});
}

// SAME: y is x.
enum { SILU = 1, SAME = 2 };

// n: B, pixels, channels, groups.
static void group_norm(struct check *check, const size_t *n)
{
    const size_t B = n[0], size = B * n[1] * n[2], C = n[2];
    const bool silu = n[FLAGS] & SILU;
    const act *w = in_act(check, C, 1), *b = in_act(check, C, 1);
    const act *x = n[FLAGS] & SAME ? NULL : in_act(check, size, 1);
    act *y = x ? out_act(check, size) : inout_act(check, size, 1);
    RUN(check, group_norm, y, x ? x : y, w, b, silu, B, n[1], C, n[3]);
}

void test_group_norm(struct check *check)
{
    CASES(check, group_norm, 2, {1, 2, 2, 1}, {2, 35, 6, 3}, {1, 64, 32, 32}, {3, 17, 64, 32},
          {1, 256, 128, 32}, {2, 9, 512, 32});
    BENCH(check, group_norm, SILU, {1, 1 << 16, 128, 32});
    BENCH(check, group_norm, SILU, {1, 1 << 10, 512, 32});
    BENCH_GPU(check, group_norm, SILU, {8, 1 << 16, 128, 32});
}

// n: B, C, pixels.
static void posterior(struct check *check, const size_t *n)
{
    const size_t size = n[0] * n[1] * n[2];
    const act *moments =
        in_act(check, 2 * size, 15); // some log variances lie beyond both ends of the clamp
    float *mean = out_f32(check, size), *std = out_f32(check, size);
    RUN(check, posterior, mean, std, moments, 0.18215f, n[0], n[1], n[2]);
}

void test_posterior(struct check *check)
{
    channel_cases(check, posterior);
    BENCH(check, posterior, 0, {8, 4, 1024});
}
