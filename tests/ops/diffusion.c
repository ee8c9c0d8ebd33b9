// Tests of the operations of training and sampling by diffusion. SPDX-License-Identifier: MIT
#include "lib/model/diffusion.h"

#include <math.h>

#include "lib/tool/tool.h"
#include "tests/ops/check.h"

// The terms of B samples whose time steps spread over the schedule, from t = 0 to 999.
static const struct diffusion_terms *in_terms(struct check *check, size_t B)
{
    struct diffusion schedule;
    struct diffusion_terms terms[16];
    if (diffusion_init(&schedule, "") < 0)
        tool_fail();
    for (size_t b = 0; b < B; b++)
        terms[b] = diffusion_terms(&schedule, B > 1 ? b * (DIFFUSION_STEPS - 1) / (B - 1) : 0);
    diffusion_free(&schedule);
    return in_raw(check, terms, B * sizeof *terms);
}

// A seed whose lower and upper words, the two halves of the key, differ.
static uint64_t draw_seed(const struct check *check)
{
    return 0x123456789ABCDEF0u + check->seed;
}

// n: B, n, index of the first sample in units of 2^30.
static void fill_normal(struct check *check, const size_t *n)
{
    float *x = out_f32(check, n[0] * n[1]);
    uint64_t seed = draw_seed(check) + n[0], first = ((uint64_t)n[2] << 30) + n[2];
    RUN(check, fill_normal, x, seed, 4, 77, first, n[0], n[1]);
}

void test_fill_normal(struct check *check)
{
    CASES(check, fill_normal, 0, {1, 1}, {1, 3}, {3, 4}, {2, 1003}, {5, 64, 3}, {2, 30, 1 << 20},
          {1, 20000});
    BENCH(check, fill_normal, 0, {64, 4096});
    BENCH_GPU(check, fill_normal, 0, {256, 4096});
}

// n: B, index of the first sample in units of 2^30. The cpu backend takes ref's function: only
// the GPU's is compared.
static void draw_times(struct check *check, const size_t *n)
{
    const struct diffusion_terms *table = in_terms(check, 16);
    float *t = out_f32(check, n[0]);
    struct diffusion_terms *terms = out_raw(check, n[0] * sizeof *terms);
    RUN(check, draw_times, t, terms, table, 16, draw_seed(check), 2, 77,
        ((uint64_t)n[1] << 30) + n[1], n[0]);
}

void test_draw_times(struct check *check)
{
    CASES(check, draw_times, 0, {1}, {3, 1}, {300, 1 << 20});
    BENCH(check, draw_times, 0, {256});
}

// n: B, index of the first sample in units of 2^30. Flags: the rate in thirds. The cpu backend
// takes ref's function: only the GPU's is compared.
static void drop_labels(struct check *check, const size_t *n)
{
    int32_t given[300], null_class = 1000;
    for (size_t b = 0; b < n[0]; b++)
        given[b] = b % 7 == 3 ? -1 : (int32_t)(b * 37 % 1000);
    int32_t *labels = out_raw(check, n[0] * sizeof *labels);
    RUN(check, drop_labels, labels, in_raw(check, given, n[0] * sizeof *given), null_class,
        (double)n[FLAGS] / 3, draw_seed(check), 3, 77, ((uint64_t)n[1] << 30) + n[1], n[0]);
}

void test_drop_labels(struct check *check)
{
    CASES(check, drop_labels, 2, {1}, {3, 1}, {300, 1 << 20});
    BENCH(check, drop_labels, 0, {256});
}

// Flags: 1, x is noise; 2, x is mean; not both.
static void latent_draw(struct check *check, const size_t *n)
{
    float *x = n[FLAGS] ? inout_f32(check, n[0], 1) : out_f32(check, n[0]);
    const float *mean = n[FLAGS] == 2 ? x : in_f32(check, n[0], 1);
    const float *noise = n[FLAGS] == 1 ? x : in_f32(check, n[0], 1);
    const float *std = in_f32(check, n[0], -0.5);
    RUN(check, latent_draw, x, mean, std, noise, n[0]);
}

void test_latent_draw(struct check *check)
{
    static const size_t flag_sets[] = {0, 1, 2};
    CASES_OF(check, latent_draw, flag_sets, {1}, {8}, {1003});
    BENCH(check, latent_draw, 0, {1 << 20});
}

static void diffuse(struct check *check, const size_t *n)
{
    const float *x0 = in_f32(check, n[0] * n[1], 1), *noise = in_f32(check, n[0] * n[1], 1);
    const struct diffusion_terms *terms = in_terms(check, n[0]);
    float *xt = out_f32(check, n[0] * n[1]);
    RUN(check, diffuse, xt, x0, noise, terms, n[0], n[1]);
}

void test_diffuse(struct check *check)
{
    CASES(check, diffuse, 0, {1, 1}, {3, 7}, {16, 1024});
    BENCH(check, diffuse, 0, {16, 4096});
}

// x_t comes from diffuse, as in training: at t = 0 the bound takes the difference between x_t and
// x0.
static void diffusion_loss(struct check *check, const size_t *n)
{
    const size_t B = n[0], N = n[1];
    const float *x0 = in_f32(check, B * N, 0.7), *noise = in_f32(check, B * N, 1);
    const float *out = in_f32(check, 2 * B * N, 1);
    const struct diffusion_terms *terms = in_terms(check, B);
    float *xt = out_f32(check, B * N), *mse = out_f32(check, B), *vb = out_f32(check, B);
    float *dout = n[FLAGS] ? out_f32(check, 2 * B * N) : NULL;
    op_diffuse(check->device, xt, x0, noise, terms, B, N);
    RUN(check, diffusion_loss, mse, vb, dout, out, x0, xt, noise, terms, 0.25f, B, N);
}

void test_diffusion_loss(struct check *check)
{
    CASES(check, diffusion_loss, 1, {1, 1}, {3, 7}, {16, 256}, {2, 1003});
    BENCH(check, diffusion_loss, 1, {16, 4096});
}

// n: B, C, elements of a channel, guided channels.
static void guide(struct check *check, const size_t *n)
{
    float *out = inout_f32(check, 2 * n[0] * 2 * n[1] * n[2], 1);
    RUN(check, guide, out, 1.5f, n[3], n[0], n[1], n[2]);
}

void test_guide(struct check *check)
{
    CASES(check, guide, 0, {1, 1, 1, 1}, {2, 4, 9, 3}, {3, 4, 64, 4}, {1, 16, 35, 3}, {1, 4, 8});
    BENCH(check, guide, 0, {8, 4, 1024, 3});
}

// n: B, n. Flags: 1, the learned variance; 2, the last step.
static void sample_step(struct check *check, const size_t *n)
{
    const size_t B = n[0], N = n[1];
    const struct sampler_step step = {.x0_x = 1.7f,
                                      .x0_eps = 1.3f,
                                      .mean_x0 = 0.3f,
                                      .mean_x = 0.8f,
                                      .mean_eps = -0.1f,
                                      .log_max = -4,
                                      .log_min = -6.5f,
                                      .sigma = 0.2f,
                                      .learned = n[FLAGS] & 1,
                                      .last = n[FLAGS] & 2};
    float *x = inout_f32(check, B * N, 1);
    const float *out = in_f32(check, 2 * B * N, 1), *noise = in_f32(check, B * N, 1);
    RUN(check, sample_step, x, out, noise, &step, B, N);
}

void test_sample_step(struct check *check)
{
    CASES(check, sample_step, 2, {1, 1}, {3, 7}, {2, 1024}, {1, 1003});
    BENCH(check, sample_step, 1, {8, 4096});
}
