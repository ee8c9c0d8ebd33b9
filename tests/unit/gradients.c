// The gradients of the ref backend's operations agree with finite differences.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/rng.h"
#include "lib/model/diffusion.h"
#include "tests/tap.h"

static uint64_t seed; // of all random numbers

// Activations of the ref device are float32 in host memory.
static act *as_act(const float *x)
{
    return (act *)(uintptr_t)x;
}

// Multiples of 2^-12, so that a step of 2^-5 to either side is exact in float32.
static void fill(float *x, size_t n, double spread, uint32_t number)
{
    const struct rng rng = {seed, RNG_TEST, number, 0};
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(round(rng_normal(&rng, i) * spread * 4096) / 4096);
}

static double dot(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

typedef double loss_function(void *problem);

// Passes if dx (n) is the gradient of loss(problem) with respect to x (n), an array of the problem.
static void gradient_agrees(const char *name, loss_function *loss, void *problem, float *x,
                            const float *dx, size_t n)
{
    static const double weights[] = {1, -8, 0, 8, -1}; // five points, error O(step^4)
    const double step = 1.0 / 32;
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        const float x_i = x[i];
        double slope = 0;
        for (int point = 0; point < 5; point++) {
            x[i] = (float)(x_i + (point - 2) * step);
            slope += weights[point] ? weights[point] * loss(problem) / (12 * step) : 0;
        }
        x[i] = x_i;
        error += (slope - dx[i]) * (slope - dx[i]);
        norm += slope * slope;
    }
    const double relative = sqrt(error / norm);
    if (!ok(relative < 3e-4, "gradient of %s is that of finite differences", name))
        diag("relative error %.2g", relative);
}

// The gradients of weights accumulate: they start at 1, which is subtracted at the end.
static void start_weight_gradient(float *dw, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dw[i] = 1;
}
static void finish_weight_gradient(float *dw, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dw[i] -= 1;
}

enum { R = 3, I = 5, O = 4 };

struct linear {
    struct device *device;
    float x[R * I], w[O * I], b[O], dy[R * O];
};

static double linear_loss(void *problem)
{
    struct linear *p = problem;
    float y[R * O];
    op_linear(p->device, as_act(y), O, as_act(p->x), as_act(p->w), as_act(p->b), R, I, O);
    return dot(y, p->dy, R * O);
}

// The GELU of x, then the linear layer.
static double gelu_linear_loss(void *problem)
{
    struct linear *p = problem;
    float identity[I * I] = {0}, gelu[R * I], pre[R * I], y[R * O];
    for (size_t i = 0; i < I; i++)
        identity[i * I + i] = 1;
    op_linear_gelu(p->device, as_act(gelu), as_act(pre), as_act(p->x), as_act(identity), NULL, R, I,
                   I);
    op_linear(p->device, as_act(y), O, as_act(gelu), as_act(p->w), NULL, R, I, O);
    return dot(y, p->dy, R * O);
}

static void test_linear(struct device *device)
{
    struct linear p = {.device = device};
    float dx[R * I], dw[O * I], db[O];
    fill(p.x, R * I, 1.5, 1);
    fill(p.w, O * I, 1, 2);
    fill(p.b, O, 1, 3);
    fill(p.dy, R * O, 1, 4);
    start_weight_gradient(dw, O * I);
    start_weight_gradient(db, O);
    op_linear_backward_input(device, as_act(dx), as_act(p.dy), as_act(p.w), R, I, O);
    op_linear_backward_weight(device, dw, db, as_act(p.dy), as_act(p.x), R, I, O);
    finish_weight_gradient(dw, O * I);
    finish_weight_gradient(db, O);
    gradient_agrees("linear: input", linear_loss, &p, p.x, dx, R * I);
    gradient_agrees("linear: weight, accumulated", linear_loss, &p, p.w, dw, O * I);
    gradient_agrees("linear: bias, accumulated", linear_loss, &p, p.b, db, O);
    op_linear_backward_input_gelu(device, as_act(dx), as_act(p.dy), as_act(p.w), as_act(p.x), R, I,
                                  O);
    gradient_agrees("linear after GELU: the GELU's input", gelu_linear_loss, &p, p.x, dx, R * I);
}

struct silu {
    struct device *device;
    float x[32], dy[32];
};

static double silu_loss(void *problem)
{
    struct silu *p = problem;
    float y[32];
    op_silu(p->device, as_act(y), as_act(p->x), 32);
    return dot(y, p->dy, 32);
}

static void test_silu(struct device *device)
{
    struct silu p = {.device = device};
    float dx[32];
    fill(p.x, 32, 4, 5);
    fill(p.dy, 32, 1, 6);
    op_silu_backward(device, as_act(dx), as_act(p.dy), as_act(p.x), 32);
    gradient_agrees("silu", silu_loss, &p, p.x, dx, 32);
}

enum { B = 2, T = 3, D = 6, STRIDE = 3 * D + 1, N = B * T * D };

struct norm {
    struct device *device;
    float x[N], branch[N], modulation[B * STRIDE], dy[N], dsum[N];
};

// Rows of shift, scale and gate, and one more element.
static struct modulation modulation_rows(float *rows)
{
    return (struct modulation){as_act(rows), as_act(rows + D), as_act(rows + 2 * D), STRIDE};
}

// The loss takes y, and x or sum through the residual connection.
static double norm_loss(void *problem)
{
    struct norm *p = problem;
    float y[N];
    op_norm_modulate(p->device, as_act(y), NULL, NULL, as_act(p->x), modulation_rows(p->modulation),
                     B, T, D);
    return dot(y, p->dy, N) + dot(p->x, p->dsum, N);
}

static double gate_norm_loss(void *problem)
{
    struct norm *p = problem;
    float sum[N], y[N];
    op_gate_residual_norm_modulate(p->device, as_act(sum), as_act(y), NULL, NULL, as_act(p->x),
                                   as_act(p->branch), modulation_rows(p->modulation), B, T, D);
    return dot(y, p->dy, N) + dot(sum, p->dsum, N);
}

static void test_norm(struct device *device)
{
    struct norm p = {.device = device};
    float y[N], sum[N], mean[B * T], rstd[B * T], dx[N], dbranch[N], dmodulation[B * STRIDE] = {0};
    fill(p.x, N, 2, 7);
    fill(p.branch, N, 1, 8);
    fill(p.modulation, B * STRIDE, 1, 9);
    fill(p.dy, N, 1, 10);
    fill(p.dsum, N, 1, 11);
    const struct modulation m = modulation_rows(p.modulation), dm = modulation_rows(dmodulation);

    op_norm_modulate(device, as_act(y), mean, rstd, as_act(p.x), m, B, T, D);
    op_norm_modulate_backward(device, as_act(dx), dm, as_act(p.dy), as_act(p.dsum), as_act(p.x),
                              mean, rstd, m, B, T, D);
    gradient_agrees("norm_modulate: input", norm_loss, &p, p.x, dx, N);
    gradient_agrees("norm_modulate: shift and scale", norm_loss, &p, p.modulation, dmodulation,
                    B * STRIDE);

    op_gate_residual_norm_modulate(device, as_act(sum), as_act(y), mean, rstd, as_act(p.x),
                                   as_act(p.branch), m, B, T, D);
    op_gate_residual_norm_modulate_backward(device, as_act(dx), as_act(dbranch), dm, as_act(p.dy),
                                            as_act(p.dsum), as_act(sum), mean, rstd,
                                            as_act(p.branch), m, B, T, D);
    gradient_agrees("gate_residual_norm_modulate: input", gate_norm_loss, &p, p.x, dx, N);
    gradient_agrees("gate_residual_norm_modulate: branch", gate_norm_loss, &p, p.branch, dbranch,
                    N);
    gradient_agrees("gate_residual_norm_modulate: gate, shift and scale", gate_norm_loss, &p,
                    p.modulation, dmodulation, B * STRIDE);
}

enum { TOKENS = 5, HEADS = 2, SIZE = 3, OUT = 2 * TOKENS * HEADS * SIZE };

struct attention {
    struct device *device;
    float qkv[3 * OUT], dout[OUT];
};

static double attention_loss(void *problem)
{
    struct attention *p = problem;
    float out[OUT];
    op_attention(p->device, as_act(out), NULL, as_act(p->qkv), 2, TOKENS, HEADS, SIZE);
    return dot(out, p->dout, OUT);
}

static void test_attention(struct device *device, const char *name, double spread)
{
    struct attention p = {.device = device};
    float out[OUT], lse[OUT / SIZE], scratch[OUT], dqkv[3 * OUT];
    fill(p.qkv, 3 * OUT, spread, 12);
    fill(p.dout, OUT, 1, 13);
    op_attention(device, as_act(out), lse, as_act(p.qkv), 2, TOKENS, HEADS, SIZE);
    op_attention_backward(device, as_act(dqkv), scratch, as_act(p.dout), as_act(p.qkv), as_act(out),
                          lse, 2, TOKENS, HEADS, SIZE);
    gradient_agrees(name, attention_loss, &p, p.qkv, dqkv, 3 * OUT);
}

enum { PIXELS = 2 * 3 * 4 * 6 };

struct patches {
    struct device *device;
    float tokens[PIXELS], dx[PIXELS];
};

static double unpatchify_loss(void *problem)
{
    struct patches *p = problem;
    float x[PIXELS];
    op_unpatchify(p->device, x, as_act(p->tokens), 2, 3, 4, 6, 2);
    return dot(x, p->dx, PIXELS);
}

static void test_unpatchify(struct device *device)
{
    struct patches p = {.device = device};
    float dtokens[PIXELS];
    fill(p.tokens, PIXELS, 1, 14);
    fill(p.dx, PIXELS, 1, 15);
    op_unpatchify_backward(device, as_act(dtokens), p.dx, 2, 3, 4, 6, 2);
    gradient_agrees("unpatchify", unpatchify_loss, &p, p.tokens, dtokens, PIXELS);
}

enum { ROWS = 4, LABELS = 5, WIDTH = 3 };

struct embedding {
    struct device *device;
    int32_t labels[LABELS];
    float table[ROWS * WIDTH], x[LABELS * WIDTH], dy[LABELS * WIDTH];
};

static double embedding_loss(void *problem)
{
    struct embedding *p = problem;
    float y[LABELS * WIDTH];
    op_embedding_add(p->device, as_act(y), as_act(p->x), as_act(p->table), p->labels, LABELS,
                     WIDTH);
    return dot(y, p->dy, LABELS * WIDTH);
}

static void test_embedding(struct device *device)
{
    struct embedding p = {.device = device, .labels = {2, 0, 2, 3, 2}};
    float dtable[ROWS * WIDTH];
    fill(p.table, ROWS * WIDTH, 1, 16);
    fill(p.x, LABELS * WIDTH, 1, 17);
    fill(p.dy, LABELS * WIDTH, 1, 18);
    start_weight_gradient(dtable, ROWS * WIDTH);
    op_embedding_backward(device, dtable, as_act(p.dy), p.labels, LABELS, WIDTH);
    finish_weight_gradient(dtable, ROWS * WIDTH);
    gradient_agrees("embedding: table, accumulated", embedding_loss, &p, p.table, dtable,
                    ROWS * WIDTH);
}

enum { ELEMENTS = 24 };

struct diffusion_problem {
    struct device *device;
    struct diffusion_terms terms;
    float x0[ELEMENTS], xt[ELEMENTS], noise[ELEMENTS], out[2 * ELEMENTS], dout[2 * ELEMENTS];
    float mse, vb;
};

static const float grad_scale = 0.5f;

static void run_loss(struct diffusion_problem *p)
{
    op_diffusion_loss(p->device, &p->mse, &p->vb, p->dout, p->out, p->x0, p->xt, p->noise,
                      &p->terms, grad_scale, 2 * ELEMENTS, 1, ELEMENTS);
}
static double mse_loss(void *problem)
{
    struct diffusion_problem *p = problem;
    run_loss(p);
    return (double)grad_scale * p->mse;
}
static double vb_loss(void *problem)
{
    struct diffusion_problem *p = problem;
    run_loss(p);
    return (double)grad_scale * p->vb;
}

// The first half of out has the gradient of mse alone, the second half that of vb alone.
static void test_diffusion_loss(struct device *device, const struct diffusion *schedule, size_t t)
{
    struct diffusion_problem p = {.device = device, .terms = diffusion_terms(schedule, t)};
    p.terms.log_max += 1; // late in the schedule the bounds of the variance nearly meet
    fill(p.x0, ELEMENTS, 0.6, 19);
    fill(p.noise, ELEMENTS, 1, 20);
    fill(p.out, 2 * ELEMENTS, 1, 21);
    p.x0[0] = p.x0[1] = -1; // the open bins at the edges
    p.x0[2] = p.x0[3] = 1;
    p.out[4] = 60; // at t = 0 a probability below the clamp
    op_diffuse(device, p.xt, p.x0, p.noise, &p.terms, 1, ELEMENTS);
    run_loss(&p);
    float dout[2 * ELEMENTS];
    memcpy(dout, p.dout, sizeof dout);
    char name[64];
    snprintf(name, sizeof name, "diffusion_loss at t = %zu: noise", t);
    gradient_agrees(name, mse_loss, &p, p.out, dout, ELEMENTS);
    p.out[4] = t ? 0 : 60; // for t > 0 its KL would dominate the sum
    run_loss(&p);
    memcpy(dout, p.dout, sizeof dout);
    snprintf(name, sizeof name, "diffusion_loss at t = %zu: variance", t);
    gradient_agrees(name, vb_loss, &p, p.out + ELEMENTS, dout + ELEMENTS, ELEMENTS);
}

int main(void)
{
    seed = tap_seed(2024);
    char why[256];
    struct device *device = device_open("ref", 1, why);
    struct diffusion schedule;
    if (!device || diffusion_init(&schedule, "") < 0)
        return 1;
    test_linear(device);
    test_silu(device);
    test_norm(device);
    test_attention(device, "attention", 1);
    test_attention(device, "attention, nearly saturated", 2.5);
    test_unpatchify(device);
    test_embedding(device);
    test_diffusion_loss(device, &schedule, 0);
    test_diffusion_loss(device, &schedule, 1);
    test_diffusion_loss(device, &schedule, 300);
    test_diffusion_loss(device, &schedule, 999);
    diffusion_free(&schedule);
    device_close(device);
    return tap_done();
}
