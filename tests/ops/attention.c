// Tests of attention and its gradient. SPDX-License-Identifier: MIT
#include "tests/ops/check.h"

// n: B, T, H, D, spread (0 means 1). D is that of the tiny models, of S to L, of XL, and odd. With
// a larger spread the scores lie so far apart that the softmax saturates.
static void attention_cases(struct check *check, check_body *body, unsigned flags)
{
    CASES(check, body, flags, {1, 1, 1, 1}, {2, 3, 2, 5}, {1, 16, 4, 12}, {2, 7, 1, 64},
          {1, 33, 2, 72}, {1, 65, 1, 64}, {1, 300, 1, 16}, {1, 140, 1, 72}, {1, 20, 1, 300},
          {2, 5, 3, 8, 4}, {1, 40, 2, 64, 3});
}

// Several tiles of keys and of queries, whole and in part, for kernels on tensor cores: the blocks
// of the backward pass have 64, 128 or, with Hopper's shared memory, 256 keys.
static void long_cases(struct check *check, check_body *body, unsigned flags)
{
    if (check->narrow)
        CASES(check, body, flags, {1, 256, 1, 64}, {1, 256, 1, 72}, {1, 257, 1, 64},
              {1, 300, 1, 72}, {1, 520, 1, 64}, {1, 769, 1, 72});
}

// A logit s is rounded to s 2^-24, and by that its softmax weight is off relatively. So that this
// is within the limit of 2e-4, the logits of wild contents must stay below 3000.
static const act *in_qkv(struct check *check, const size_t *n)
{
    const double spread = check->wild ? 0.25 : n[4] ? (double)n[4] : 1;
    return in_act(check, n[0] * n[1] * 3 * n[2] * n[3], spread);
}

static void attention(struct check *check, const size_t *n)
{
    const size_t B = n[0], T = n[1], H = n[2], D = n[3];
    const act *qkv = in_qkv(check, n);
    act *out = out_act(check, B * T * H * D);
    float *lse = n[FLAGS] ? out_f32(check, B * H * T) : NULL;
    check->flops = 4.0 * (double)(B * H * T * T * D);
    RUN(check, attention, out, lse, qkv, B, T, H, D);
}

void test_attention(struct check *check)
{
    attention_cases(check, attention, 1);
    long_cases(check, attention, 0);
    BENCH(check, attention, 1, {8, 256, 6, 64});
    BENCH(check, attention, 1, {8, 256, 16, 72});
    BENCH(check, attention, 1, {8, 64, 3, 64});
    BENCH(check, attention, 0, {1, 1024, 1, 512});
    BENCH_GPU(check, attention, 1, {256, 256, 16, 72});
    BENCH_GPU(check, attention, 1, {256, 256, 6, 64});
    BENCH_GPU(check, attention, 1, {256, 64, 12, 64});
    BENCH_GPU(check, attention, 0, {8, 1024, 1, 512});
}

static void attention_backward(struct check *check, const size_t *n)
{
    const size_t B = n[0], T = n[1], H = n[2], D = n[3];
    const act *qkv = in_qkv(check, n), *dout = in_act(check, B * T * H * D, 1);
    act *out = out_act(check, B * T * H * D), *dqkv = out_act(check, B * T * 3 * H * D);
    float *lse = out_f32(check, B * H * T);
    float *scratch = check_buffer(check, SCRATCH, F32, NULL, B * T * H * D, 0);
    check->flops = 10.0 * (double)(B * H * T * T * D);
    op_attention(check->device, out, lse, qkv, B, T, H, D);
    check_share(check, out); // softmax that saturates leaves ds = p (dp - sum of out dout) near 0
    check_share(check, lse);
    RUN(check, attention_backward, dqkv, scratch, dout, qkv, out, lse, B, T, H, D);
}

void test_attention_backward(struct check *check)
{
    attention_cases(check, attention_backward, 0);
    long_cases(check, attention_backward, 0);
    BENCH(check, attention_backward, 0, {8, 256, 6, 64});
    BENCH(check, attention_backward, 0, {8, 256, 16, 72});
    BENCH_GPU(check, attention_backward, 0, {256, 256, 16, 72});
    BENCH_GPU(check, attention_backward, 0, {256, 256, 6, 64});
    BENCH_GPU(check, attention_backward, 0, {256, 64, 12, 64});
}
