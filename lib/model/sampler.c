// Sampling by DDPM or DDIM, with classifier-free guidance. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/arena.h"
#include "lib/model/device-check.h"
#include "lib/model/sampler.h"

struct sampler {
    struct device *device;
    struct sampler_settings settings;
    struct diffusion diffusion;
    struct dit *dit;
    size_t batch, B; // the most samples at once; those being drawn
    size_t copies;   // of each sample in the model's batch: with guidance 2 (class, none), else 1
    size_t n;        // elements of a latent
    void *recorded;  // predict_noise as a GPU recorded it

    void *memory; // on the device; holds the arrays below
    size_t memory_size;
    float *x;        // (copies B,C,S,S); the first B are the samples
    float *noise;    // (B,C,S,S)
    float *out;      // (copies B,2C,S,S)
    float *t;        // (copies B)
    int32_t *labels; // (copies B)

    // Host memory.
    float *host_t;        // (copies batch)
    int32_t *host_labels; // (copies batch)
};

size_t sampler_guided_channels(size_t channels)
{
    return channels == 4 ? 3 : channels;
}

// Lays out the device memory from address `base` and sets memory_size.
static void place_sampler(struct sampler *s, uintptr_t base)
{
    struct arena arena = {base, s->device->backend->act_size};
    size_t rows = s->copies * s->batch;
    s->x = arena_take_float(&arena, rows * s->n);
    s->noise = arena_take_float(&arena, s->batch * s->n);
    s->out = arena_take_float(&arena, rows * 2 * s->n);
    s->t = arena_take_float(&arena, rows);
    s->labels = arena_take(&arena, rows * sizeof *s->labels);
    s->memory_size = arena.next - base;
}

static int choose_guidance(struct sampler *s, const struct dit_config *config)
{
    double *scale = &s->settings.cfg_scale;
    if (*scale < 0)
        *scale = config->no_null_class ? 1 : SAMPLER_CFG_SCALE;
    if (*scale != 1 && config->no_null_class)
        return error_set(STATUS_USAGE,
                         "guidance of %g needs a null class, and the model was "
                         "trained without one; --cfg-scale 1 draws without guidance",
                         *scale);
    s->copies = *scale == 1 || config->classes == 0 ? 1 : 2;
    return 0;
}

struct sampler *sampler_new(struct device *device, const struct dit_config *config, size_t batch,
                            const float *const *mapped, const struct sampler_settings *settings)
{
    struct sampler *s = mem_new(1, sizeof *s);
    if (!s)
        return NULL;
    s->device = device;
    s->settings = *settings;
    s->batch = batch;
    s->n = config->channels * config->input_size * config->input_size;
    if (choose_guidance(s, config) < 0)
        goto failed;
    size_t rows = s->copies * batch;
    if (diffusion_init(&s->diffusion, settings->respacing) < 0 ||
        !(s->dit = dit_new(device, config, rows, DIT_INFER, mapped)) ||
        !(s->host_t = mem_new(rows, sizeof *s->host_t)) ||
        !(s->host_labels = mem_new(rows, sizeof *s->host_labels)))
        goto failed;
    place_sampler(s, 0);
    if ((s->memory = device_alloc(device, s->memory_size))) {
        place_sampler(s, (uintptr_t)s->memory);
        return s;
    }
    device_lacks(device, s->memory_size, "a smaller batch needs less", "a batch of %zu samples",
                 batch);
failed:
    sampler_free(s);
    return NULL;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    device_forget(s->device, &s->recorded);
    if (s->memory)
        device_release(s->device, s->memory);
    dit_free(s->dit);
    diffusion_free(&s->diffusion);
    free(s->host_t);
    free(s->host_labels);
    free(s);
}

struct dit *sampler_model(struct sampler *s)
{
    return s->dit;
}

size_t sampler_rows(const struct sampler *s)
{
    return s->copies * s->batch;
}

size_t sampler_memory(const struct sampler *s)
{
    return dit_memory(s->dit) + s->memory_size;
}

size_t sampler_steps(const struct sampler *s)
{
    return s->diffusion.steps;
}

float *sampler_state(struct sampler *s)
{
    return s->x;
}

float *sampler_noise(struct sampler *s)
{
    return s->noise;
}

void sampler_start(struct sampler *s, const int32_t *labels, size_t B)
{
    s->B = B;
    for (size_t b = 0; b < B; b++) {
        s->host_labels[b] = labels[b];
        if (s->copies == 2)
            s->host_labels[B + b] = (int32_t)dit_get_config(s->dit)->classes;
    }
    device_upload(s->device, s->labels, s->host_labels, s->copies * B * sizeof *s->labels);
}

// The model's output for the samples at their time step, guided.
static void predict_noise(void *user)
{
    struct sampler *s = user;
    struct device *d = s->device;
    const struct dit_config *c = dit_get_config(s->dit);
    size_t B = s->B, area = c->input_size * c->input_size;
    if (s->copies == 2)
        device_copy(d, s->x + B * s->n, s->x, B * s->n * sizeof *s->x);
    dit_forward(s->dit, s->out, s->x, s->t, s->labels, s->copies * B);
    if (s->copies == 2)
        op_guide(d, s->out, (float)s->settings.cfg_scale, s->settings.cfg_channels, B, c->channels,
                 area);
}

void sampler_advance(struct sampler *s, size_t i)
{
    struct device *d = s->device;
    size_t B = s->B, rows = s->copies * B;
    for (size_t b = 0; b < rows; b++)
        s->host_t[b] = (float)s->diffusion.timestep_map[i];
    device_upload(d, s->t, s->host_t, rows * sizeof *s->t);
    if (B == s->batch)
        device_repeat(d, &s->recorded, predict_noise, s);
    else
        predict_noise(s);
    struct sampler_step step = s->settings.ddim
                                   ? diffusion_ddim_step(&s->diffusion, i, s->settings.eta)
                                   : diffusion_ddpm_step(&s->diffusion, i);
    op_sample_step(d, s->x, s->out, s->noise, &step, B, s->n);
}

int sampler_run(struct sampler *s, uint64_t first, const int32_t *labels, size_t B, float *latents,
                void (*done)(void *user), void *user)
{
    struct device *d = s->device;
    sampler_start(s, labels, B);
    op_fill_normal(d, s->x, s->settings.seed, RNG_SAMPLE_START, 0, first, B, s->n);
    for (size_t i = s->diffusion.steps; i-- > 0;) {
        if (!s->settings.ddim || s->settings.eta > 0)
            op_fill_normal(d, s->noise, s->settings.seed, RNG_SAMPLE_NOISE,
                           (uint32_t)s->diffusion.timestep_map[i], first, B, s->n);
        sampler_advance(s, i);
        if (done)
            done(user);
    }
    device_download(d, latents, s->x, B * s->n * sizeof *latents);
    if (device_check(d) < 0)
        return -1;
    for (size_t e = 0; e < B * s->n; e++)
        if (!isfinite(latents[e]))
            return error_set(STATUS_DATA,
                             "sample %llu came out as %g: the weights are damaged, or guidance is "
                             "far too strong",
                             (unsigned long long)(first + e / s->n), (double)latents[e]);
    return 0;
}
