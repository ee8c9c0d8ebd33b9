// The gradients of a small DiT agree with finite differences, and recomputing changes no bit of
// them.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/dit.h"
#include "tests/tap.h"

#define BATCH 3

static const struct dit_config config = {.input_size = 6,
                                         .channels = 3,
                                         .patch = 2,
                                         .depth = 2,
                                         .hidden = 24,
                                         .heads = 3,
                                         .classes = 4,
                                         .learn_sigma = true};
#define LATENT ((size_t)3 * 6 * 6)

struct model {
    struct device *device;
    struct dit *dit;
    float *weights; // host
    float *x, *t, *out, *projection;
    int32_t *y;
};

static uint64_t seed; // of all weights and inputs

static void fill(float *values, size_t n, uint64_t sample, double scale)
{
    struct rng rng = {.seed = seed, .purpose = RNG_TEST, .sample = sample};
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(scale * rng_normal(&rng, i));
}

static float *on_device(struct device *device, const void *values, size_t bytes)
{
    float *memory = device_alloc(device, bytes);
    device_upload(device, memory, values, bytes);
    return memory;
}

static void set_weights(struct model *m)
{
    const struct layout *layout = dit_get_layout(m->dit);
    for (size_t i = 0; i < layout->n_params; i++)
        dit_set_param(m->dit, &layout->params[i], m->weights + layout->params[i].offset);
}

static struct model make(const char *backend, enum dit_mode mode)
{
    struct model m = {0};
    char why[256];
    m.device = device_open(backend, 2, why);
    m.dit = m.device ? dit_new(m.device, &config, BATCH, mode, NULL) : NULL;
    if (!m.dit) {
        ok(false, "can't go on: %s%s", why, error_message());
        exit(1);
    }
    // All weights are random and nonzero, so that no gradient vanishes.
    size_t n = dit_get_layout(m.dit)->size;
    float x[BATCH * LATENT], projection[2 * BATCH * LATENT], t[BATCH] = {0, 17, 999};
    int32_t y[BATCH] = {0, 4, 2};
    m.weights = mem_new(n, sizeof(float));
    fill(m.weights, n, 0, 0.2);
    fill(x, BATCH * LATENT, 1, 1);
    fill(projection, 2 * BATCH * LATENT, 2, 1);
    m.x = on_device(m.device, x, sizeof x);
    m.t = on_device(m.device, t, sizeof t);
    m.y = (int32_t *)on_device(m.device, y, sizeof y);
    m.projection = on_device(m.device, projection, sizeof projection);
    m.out = device_alloc(m.device, sizeof projection);
    set_weights(&m);
    return m;
}

static void drop(struct model *m)
{
    void *memory[] = {m->x, m->t, m->y, m->projection, m->out};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        device_release(m->device, memory[i]);
    dit_free(m->dit);
    device_close(m->device);
    free(m->weights);
}

// sum(projection out), whose gradient is dit_backward(projection).
static double value(struct model *m)
{
    float out[2 * BATCH * LATENT], projection[2 * BATCH * LATENT];
    double sum = 0;
    dit_forward(m->dit, m->out, m->x, m->t, m->y, BATCH);
    device_download(m->device, out, m->out, sizeof out);
    device_download(m->device, projection, m->projection, sizeof projection);
    for (size_t i = 0; i < 2 * BATCH * LATENT; i++)
        sum += (double)out[i] * projection[i];
    return sum;
}

static float *gradients(struct model *m)
{
    size_t n = dit_get_layout(m->dit)->size;
    float *all = mem_new(n, sizeof *all);
    value(m);
    dit_backward(m->dit, m->projection, m->y, BATCH, NULL, NULL);
    device_download(m->device, all, dit_gradients(m->dit), n * sizeof *all);
    return all;
}

// Compares (f(w + h d) - f(w - h d)) / 2h with gradient . d, for a random direction d of one
// parameter.
static void check_param(struct model *m, const char *backend, const struct param *p,
                        const float *gradient)
{
    float *direction = mem_new(p->count, sizeof *direction), *w = m->weights + p->offset;
    float *kept = mem_new(p->count, sizeof *kept);
    double expected = 0, norm = 0, scale = 0;
    fill(direction, p->count, 10 + p->offset, 1);
    memcpy(kept, w, p->count * sizeof *w);
    for (size_t i = 0; i < p->count; i++) {
        expected += (double)direction[i] * gradient[p->offset + i];
        norm += (double)direction[i] * direction[i];
        scale += (double)gradient[p->offset + i] * gradient[p->offset + i];
    }
    double h = 5e-3 / sqrt(norm), f[4];
    const double at[] = {1, -1, 2, -2}; // two central differences cancel the cubic error
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < p->count; i++)
            w[i] = (float)(kept[i] + at[k] * h * direction[i]);
        set_weights(m);
        f[k] = value(m);
    }
    double measured = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h);
    memcpy(w, kept, p->count * sizeof *w);
    double error = fabs(measured - expected) / (sqrt(scale * norm / (double)p->count) + 1e-3);
    if (!ok(error < 5e-3, "%s: gradient of %s", backend, p->name))
        diag("measured %g, expected %g", measured, expected);
    free(direction);
    free(kept);
}

// Checks that recomputing changes nothing in the gradients `all` of a model.
static void check_recomputing(const struct model *m, const char *backend, const float *all)
{
    const struct layout *layout = dit_get_layout(m->dit);
    for (enum dit_mode mode = DIT_TRAIN_LIGHT; mode <= DIT_TRAIN_BLOCK; mode++) {
        const char *name = mode == DIT_TRAIN_LIGHT ? "light" : "block";
        struct model again = make(backend, mode);
        float *recomputed = gradients(&again);
        ok(memcmp(all, recomputed, layout->size * sizeof *all) == 0,
           "%s: %s recomputing changes no bit of the gradients", backend, name);
        ok(dit_memory(again.dit) < dit_memory(m->dit), "%s: %s recomputing takes less memory",
           backend, name);
        free(recomputed);
        drop(&again);
    }
}

static void check_backend(const char *backend)
{
    struct model m = make(backend, DIT_TRAIN);
    const struct layout *layout = dit_get_layout(m.dit);
    float *all = gradients(&m);
    check_recomputing(&m, backend, all);
    for (size_t i = 0; i < layout->n_params; i++)
        check_param(&m, backend, &layout->params[i], all);
    set_weights(&m);

    float *twice = gradients(&m); // adds to the first ones
    bool close = true;
    for (size_t i = 0; i < layout->size; i++)
        close = close && fabs(twice[i] - 2.0 * all[i]) < 1e-4 * (fabs(all[i]) + 1e-3);
    ok(close, "%s: gradients of weights accumulate", backend);
    free(all), free(twice);
    drop(&m);
}

// Gradients of bfloat16 are too coarse for finite differences; dit-reference compares them.
static void check_narrow(const char *backend)
{
    struct model m = make(backend, DIT_TRAIN);
    float *all = gradients(&m);
    check_recomputing(&m, backend, all);
    free(all);
    drop(&m);
}

int main(void)
{
    seed = tap_seed(7);
    check_backend("ref");
    check_backend("cpu");
    check_narrow("cpu,bf16");
    return tap_done();
}
