// Tests of patches, time steps and classes. SPDX-License-Identifier: MIT
#include "tests/ops/check.h"

// n: B, C, H, W, P.
static void patch_cases(struct check *check, check_body *body, unsigned flags)
{
    CASES(check, body, flags, {1, 1, 1, 1, 1}, {2, 3, 4, 6, 2}, {1, 4, 8, 8, 4}, {3, 16, 4, 4, 1},
          {1, 5, 9, 6, 3}, {1, 4, 16, 8, 8}, {2, 4, 32, 32, 2});
}

static size_t pixels(const size_t *n)
{
    return n[0] * n[1] * n[2] * n[3];
}

static void patchify(struct check *check, const size_t *n)
{
    const float *x = in_f32(check, pixels(n), 1);
    act *tokens = out_act(check, pixels(n));
    RUN(check, patchify, tokens, x, n[0], n[1], n[2], n[3], n[4]);
}

void test_patchify(struct check *check)
{
    patch_cases(check, patchify, 0);
    BENCH(check, patchify, 0, {64, 4, 32, 32, 2});
    BENCH_GPU(check, patchify, 0, {256, 4, 32, 32, 2});
}

static void unpatchify(struct check *check, const size_t *n)
{
    const act *tokens = in_act(check, pixels(n), 1);
    float *x = out_f32(check, pixels(n));
    RUN(check, unpatchify, x, tokens, n[0], n[1], n[2], n[3], n[4]);
}

void test_unpatchify(struct check *check)
{
    patch_cases(check, unpatchify, 0);
    BENCH(check, unpatchify, 0, {64, 8, 32, 32, 2});
    BENCH_GPU(check, unpatchify, 0, {256, 8, 32, 32, 2});
}

static void unpatchify_backward(struct check *check, const size_t *n)
{
    const float *dx = in_f32(check, pixels(n), 1);
    act *dtokens = out_act(check, pixels(n));
    RUN(check, unpatchify_backward, dtokens, dx, n[0], n[1], n[2], n[3], n[4]);
}

void test_unpatchify_backward(struct check *check)
{
    patch_cases(check, unpatchify_backward, 0);
    BENCH(check, unpatchify_backward, 0, {64, 8, 32, 32, 2});
}

// n: the number of features.
static void timestep_features(struct check *check, const size_t *n)
{
    static const float steps[] = {0, 1, 999, 500, 17, 0.5f, 123.25f, 998};
    const size_t B = sizeof steps / sizeof steps[0];
    const float *t = check_buffer(check, IN, F32, steps, B, 0);
    act *f = out_act(check, B * n[0]);
    RUN(check, timestep_features, f, t, B, n[0]);
}

void test_timestep_features(struct check *check)
{
    CASES(check, timestep_features, 0, {2}, {10}, {256});
    BENCH(check, timestep_features, 0, {256});
}

static const int32_t labels[] = {3, 0, 10, 3, 7, 3, 0, 9};

// n: B, D. Flag 1: y is x.
static void embedding_add(struct check *check, const size_t *n)
{
    const size_t B = n[0], D = n[1];
    act *y = n[FLAGS] ? inout_act(check, B * D, 1) : out_act(check, B * D);
    const act *x = n[FLAGS] ? y : in_act(check, B * D, 1), *table = in_act(check, 11 * D, 1);
    const int32_t *rows = in_raw(check, labels, B * sizeof *labels);
    RUN(check, embedding_add, y, x, table, rows, B, D);
}

void test_embedding_add(struct check *check)
{
    CASES(check, embedding_add, 1, {1, 1}, {8, 7}, {5, 384});
    BENCH(check, embedding_add, 0, {8, 1152});
}

static void embedding_backward(struct check *check, const size_t *n)
{
    const size_t B = n[0], D = n[1];
    float *dtable = inout_f32(check, 11 * D, 1);
    const act *dy = in_act(check, B * D, 1);
    const int32_t *rows = in_raw(check, labels, B * sizeof *labels);
    RUN(check, embedding_backward, dtable, dy, rows, B, D);
}

void test_embedding_backward(struct check *check)
{
    CASES(check, embedding_backward, 0, {1, 1}, {8, 7}, {5, 384});
    BENCH(check, embedding_backward, 0, {8, 1152});
}
