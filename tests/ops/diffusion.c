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
    for (size_t b = 0; b < B; b++) {
        terms[b] = diffusion_terms(&schedule, B > 1 ? b * (DIFFUSION_STEPS - 1) / (B - 1) : 0);
        terms[b].out = 1.1f;
        terms[b].data = 0.3f;
        terms[b].weight = 0.8f;
    }
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

// n: B, index of the first sample in units of 2^30. Flags: what is drawn, predicted and weighted,
// in base 3. The cpu backend takes ref's function: only the GPU's is compared.
static void draw_flow_times(struct check *check, const size_t *n)
{
    const struct flow_training flow = {.path = FLOW_LINEAR + n[FLAGS] % 3,
                                       .prediction = FLOW_VELOCITY + n[FLAGS] / 3 % 3,
                                       .weight = n[FLAGS] / 9 % 3,
                                       .reversed = n[FLAGS] & 1,
                                       .low = 1e-3,
                                       .high = 1 - 1e-3,
                                       .logit_normal = n[FLAGS] & 2,
                                       .mean = 0.2,
                                       .std = 1.5};
    float *t = out_f32(check, n[0]);
    float *terms = out_f32(check, n[0] * sizeof(struct diffusion_terms) / sizeof *terms);
    RUN(check, draw_flow_times, t, (struct diffusion_terms *)terms, &flow, draw_seed(check), 2, 77,
        ((uint64_t)n[1] << 30) + n[1], n[0]);
}

void test_draw_flow_times(struct check *check)
{
    size_t flag_sets[27];
    for (size_t i = 0; i < 27; i++)
        flag_sets[i] = i;
    CASES_OF(check, draw_flow_times, flag_sets, {1}, {3, 1}, {300, 1 << 20});
    BENCH(check, draw_flow_times, 0, {256});
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

enum { WITH_BOUND = 1, WITH_GRADIENT = 2, ONLY_PREDICTION = 4 }; // of diffusion_loss

// x_t comes from diffuse, as in training: at t = 0 the bound takes the difference between x_t and
// x0.
static void diffusion_loss(struct check *check, const size_t *n)
{
    const size_t B = n[0], N = n[1];
    const float *x0 = in_f32(check, B * N, 0.7), *noise = in_f32(check, B * N, 1);
    const size_t stride = n[FLAGS] & ONLY_PREDICTION ? N : 2 * N;
    const float *out = in_f32(check, B * stride, 1);
    const struct diffusion_terms *terms = in_terms(check, B);
    float *xt = out_f32(check, B * N), *mse = out_f32(check, B);
    float *vb = n[FLAGS] & WITH_BOUND ? out_f32(check, B) : NULL;
    float *dout = n[FLAGS] & WITH_GRADIENT ? out_f32(check, B * stride) : NULL;
    op_diffuse(check->device, xt, x0, noise, terms, B, N);
    RUN(check, diffusion_loss, mse, vb, dout, out, x0, xt, noise, terms, 0.25f, stride, B, N);
}

void test_diffusion_loss(struct check *check)
{
    static const size_t flag_sets[] = {WITH_BOUND, WITH_BOUND | WITH_GRADIENT, WITH_GRADIENT,
                                       WITH_GRADIENT | ONLY_PREDICTION};
    CASES_OF(check, diffusion_loss, flag_sets, {1, 1}, {3, 7}, {16, 256}, {2, 1003});
    BENCH(check, diffusion_loss, WITH_BOUND | WITH_GRADIENT, {16, 4096});
}

// n: B, C, elements of a channel, guided channels. Flags: 1, rescaled; 2, rows with the variance.
static void guide(struct check *check, const size_t *n)
{
    const size_t stride = (n[FLAGS] & 2 ? 2 : 1) * n[1] * n[2];
    float *out = inout_f32(check, 2 * n[0] * stride, 1);
    RUN(check, guide, out, 1.5f, n[FLAGS] & 1 ? 0.7f : 0, n[3], stride, n[0], n[1], n[2]);
}

void test_guide(struct check *check)
{
    static const size_t flag_sets[] = {0, 1, 2, 3};
    CASES_OF(check, guide, flag_sets, {1, 1, 2, 1}, {2, 4, 9, 3}, {3, 4, 64, 4}, {1, 16, 35, 3},
             {1, 4, 8});
    BENCH(check, guide, 2, {8, 4, 1024, 3});
}

enum { STEP_LEARNED = 1, STEP_SIGMA = 2, STEP_NO_MODEL = 4, STEP_NARROW = 8 }; // of sample_step

// n: B, n, K.
static void sample_step(struct check *check, const size_t *n)
{
    const size_t B = n[0], N = n[1], K = n[2], stride = n[FLAGS] & STEP_NARROW ? N : 2 * N;
    struct sampler_step step = {.log_max = -4,
                                .log_min = -6.5f,
                                .sigma = n[FLAGS] & STEP_SIGMA ? 0.2f : 0,
                                .learned = n[FLAGS] & STEP_LEARNED};
    for (size_t k = 0; k < SAMPLER_STATES; k++) {
        step.out[k] = 0.3f - (float)k;
        for (size_t j = 0; j < SAMPLER_STATES; j++)
            step.state[k][j] = 1.1f * (float)k - 0.7f * (float)j + 0.2f;
    }
    float *states = inout_f32(check, K * B * N, 1);
    const float *out = n[FLAGS] & STEP_NO_MODEL ? NULL : in_f32(check, B * stride, 1);
    const float *noise = in_f32(check, B * N, 1);
    RUN(check, sample_step, states, out, noise, &step, K, stride, B, N);
}

void test_sample_step(struct check *check)
{
    static const size_t flag_sets[] = {0, STEP_LEARNED, STEP_SIGMA | STEP_NARROW,
                                       STEP_SIGMA | STEP_NO_MODEL};
    CASES_OF(check, sample_step, flag_sets, {1, 1, 1}, {3, 7, 2}, {2, 1024, 1}, {1, 1003, 4},
             {2, 256, 3});
    BENCH(check, sample_step, STEP_LEARNED, {8, 4096, 1});
    BENCH(check, sample_step, 0, {8, 4096, 4});
}
