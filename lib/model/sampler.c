// Sampling stage by stage, with guidance. SPDX-License-Identifier: MIT
#include "lib/model/sampler.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/arena.h"
#include "lib/model/device-check.h"
#include "lib/model/diffusion.h"
#include "lib/model/solver.h"

// Whom to guide away from.
enum guidance { GUIDANCE_NONE, GUIDANCE_NULL_CLASS, GUIDANCE_MODEL };

struct sampler {
    struct device *device;
    struct sampler_settings settings;
    struct sampler_stages stages;
    enum guidance guidance, made_for;
    struct dit *dit, *guide; // guide with GUIDANCE_MODEL
    size_t batch, B;         // the most samples at once; those being drawn
    size_t n;                // elements of a latent
    size_t stride;           // of a row of out: with the variance 2 n
    void *recorded[2];       // evaluate_model as a GPU recorded it, without and with guidance

    void *memory; // on the device; holds the arrays below
    size_t memory_size;
    float *states;   // (states,B,C,S,S); the first B are the samples
    float *input;    // (2 B,C,S,S), the samples twice; with GUIDANCE_NULL_CLASS
    float *noise;    // (B,C,S,S)
    float *out;      // (B or, with guidance, 2 B, stride)
    float *t;        // (rows)
    int32_t *labels; // (rows): the samples' classes, then null classes

    // Host memory.
    float *host_t;        // (rows)
    int32_t *host_labels; // (rows)
};

size_t sampler_guided_channels(size_t channels, const struct objective *objective)
{
    return channels == 4 && objective->time != FLOW_TIME_NOISE ? 3 : channels;
}

// The rows of the model's batch for B samples.
static size_t count_rows(const struct sampler *s, size_t B)
{
    return s->guidance == GUIDANCE_NULL_CLASS ? 2 * B : B;
}

// Lays out the device memory from address `base` and sets memory_size.
static void place_sampler(struct sampler *s, uintptr_t base)
{
    struct arena arena = {base, s->device->backend->act_size};
    size_t rows = count_rows(s, s->batch), outputs = s->guidance ? 2 * s->batch : s->batch;
    s->states = arena_take_float(&arena, s->stages.states * s->batch * s->n);
    if (s->guidance == GUIDANCE_NULL_CLASS)
        s->input = arena_take_float(&arena, rows * s->n);
    s->noise = arena_take_float(&arena, s->batch * s->n);
    s->out = arena_take_float(&arena, outputs * s->stride);
    s->t = arena_take_float(&arena, rows);
    s->labels = arena_take(&arena, rows * sizeof *s->labels);
    s->memory_size = arena.next - base;
}

static int choose_guidance(struct sampler *s, const struct dit_config *config)
{
    double *scale = &s->settings.cfg_scale;
    const bool second = s->settings.guide;
    if (*scale < 0)
        *scale = config->no_null_class && !second ? 1 : SAMPLER_CFG_SCALE;
    if (*scale != 1 && config->no_null_class && !second)
        return error_set(STATUS_USAGE,
                         "guidance of %g needs a null class, and the model was "
                         "trained without one; --cfg-scale 1 draws without guidance",
                         *scale);
    s->guidance = *scale == 1           ? GUIDANCE_NONE
                  : second              ? GUIDANCE_MODEL
                  : config->classes > 0 ? GUIDANCE_NULL_CLASS
                                        : GUIDANCE_NONE;
    if (s->guidance == GUIDANCE_NONE &&
        (second || s->settings.cfg_rescale > 0 || s->settings.cfg_high > 0))
        return error_set(STATUS_USAGE,
                         "--cfg-interval, --cfg-rescale and --guide-weights need guidance, and "
                         "there is none%s",
                         *scale == 1 ? " with a scale of 1" : " of a model without classes");
    return 0;
}

static int parse_steps(const char *text, size_t *steps)
{
    char *end;
    unsigned long value = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : 0;
    *steps = value;
    return value && !*end
               ? 0
               : error_set(STATUS_USAGE,
                           "sampling steps \"%s\": expected a whole number from 1 for this sampler",
                           text);
}

static int check_method(const struct sampler_settings *settings, enum sampler_method method,
                        bool learn_sigma)
{
    bool flow = settings->objective.kind == OBJECTIVE_FLOW;
    if (flow != (method >= SAMPLER_EULER))
        return error_set(
            STATUS_USAGE,
            "the sampler is for %s, but the model was trained by %s, whose samplers are %s",
            flow ? "diffusion" : "flow matching", flow ? "flow matching" : "diffusion",
            flow ? "euler, heun, sde-euler and sde-heun"
                 : "ddpm, ddim, dpm++, dpm++2m, sde-dpm++2m and unipc");
    if (method == SAMPLER_DDPM && !learn_sigma)
        return error_set(STATUS_USAGE, "the ddpm sampler needs a model that predicts the variance, "
                                       "which this one does not");
    return 0;
}

static int make_stages(struct sampler_stages *stages, const struct sampler_settings *settings,
                       bool learn_sigma)
{
    bool flow = settings->objective.kind == OBJECTIVE_FLOW;
    enum sampler_method method = settings->method ? settings->method
                                 : flow           ? SAMPLER_EULER
                                                  : SAMPLER_DDPM;
    bool solver = method >= SAMPLER_DPMPP && method <= SAMPLER_UNIPC;
    const char *text = settings->steps ? settings->steps : solver ? "20" : "250";
    size_t steps;
    if (check_method(settings, method, learn_sigma) < 0)
        return -1;
    if (method == SAMPLER_DDPM || method == SAMPLER_DDIM)
        return diffusion_stages(stages, text, method == SAMPLER_DDIM, settings->eta);
    if (parse_steps(text, &steps) < 0)
        return -1;
    if (solver)
        return solver_stages(stages, (enum solver)(method - SAMPLER_DPMPP), steps,
                             settings->karras);
    struct flow_solver ode = settings->flow;
    ode.steps = steps;
    ode.heun = method == SAMPLER_HEUN || method == SAMPLER_SDE_HEUN;
    ode.sde = method == SAMPLER_SDE_EULER || method == SAMPLER_SDE_HEUN;
    return flow_stages(stages, &settings->objective, &ode);
}

// Both models draw the same latents of the same classes.
static int check_guide(const struct dit_config *config, const struct dit_config *guide)
{
    if (guide->channels == config->channels && guide->input_size == config->input_size &&
        guide->classes == config->classes && guide->learn_sigma == config->learn_sigma &&
        (!guide->no_null_class || config->no_null_class))
        return 0;
    if (guide->no_null_class && !config->no_null_class)
        return error_set(STATUS_DATA, "the model to guide away from has no null class, which the "
                                      "model to draw from has");
    return error_set(STATUS_DATA,
                     "the model to guide away from is for %zu classes of latents %zux%zux%zu, %s "
                     "variance; the model to draw from is for %zu of %zux%zux%zu, %s variance",
                     guide->classes, guide->channels, guide->input_size, guide->input_size,
                     guide->learn_sigma ? "with" : "without", config->classes, config->channels,
                     config->input_size, config->input_size,
                     config->learn_sigma ? "with" : "without");
}

struct sampler *sampler_new(struct device *device, const struct dit_config *config, size_t batch,
                            const float *const *mapped, const struct sampler_settings *settings)
{
    struct sampler *s = mem_new(1, sizeof *s);
    if (!s)
        return NULL;
    s->device = device;
    s->settings = *settings;
    if (!s->settings.cfg_channels)
        s->settings.cfg_channels = sampler_guided_channels(config->channels, &settings->objective);
    s->batch = batch;
    s->n = config->channels * config->input_size * config->input_size;
    s->stride = config->learn_sigma ? 2 * s->n : s->n;
    if (choose_guidance(s, config) < 0)
        goto failed;
    s->made_for = s->guidance;
    size_t rows = count_rows(s, batch);
    if (make_stages(&s->stages, settings, config->learn_sigma) < 0 ||
        (s->guidance == GUIDANCE_MODEL && check_guide(config, settings->guide) < 0) ||
        !(s->dit = dit_new(device, config, rows, DIT_INFER, mapped)) ||
        (s->guidance == GUIDANCE_MODEL &&
         !(s->guide = dit_new(device, settings->guide, batch, DIT_INFER, NULL))) ||
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
    for (size_t i = 0; i < 2; i++)
        device_forget(s->device, &s->recorded[i]);
    if (s->memory)
        device_release(s->device, s->memory);
    dit_free(s->dit);
    dit_free(s->guide);
    stages_free(&s->stages);
    free(s->host_t);
    free(s->host_labels);
    free(s);
}

int sampler_change(struct sampler *s, const char *steps, double cfg_scale)
{
    const struct dit_config *config = dit_get_config(s->dit);
    const size_t states = s->stages.states;
    s->settings.steps = steps;
    s->settings.cfg_scale = cfg_scale;
    stages_free(&s->stages);
    if (choose_guidance(s, config) < 0 ||
        make_stages(&s->stages, &s->settings, config->learn_sigma) < 0)
        return -1;
    assert(s->stages.states <= states && (!s->guidance || s->guidance == s->made_for));
    return 0;
}

struct dit *sampler_model(struct sampler *s)
{
    return s->dit;
}

struct dit *sampler_guide(struct sampler *s)
{
    return s->guide;
}

size_t sampler_rows(const struct sampler *s)
{
    return s->made_for == GUIDANCE_NULL_CLASS ? 2 * s->batch : s->batch;
}

size_t sampler_memory(const struct sampler *s)
{
    return dit_memory(s->dit) + (s->guide ? dit_memory(s->guide) : 0) + s->memory_size;
}

size_t sampler_evaluations(const struct sampler *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->stages.n; i++)
        n += s->stages.all[i].evaluate;
    return n;
}

const struct sampler_stages *sampler_get_stages(const struct sampler *s)
{
    return &s->stages;
}

float *sampler_state(struct sampler *s)
{
    return s->states;
}

float *sampler_noise(struct sampler *s)
{
    return s->noise;
}

void sampler_start(struct sampler *s, const int32_t *labels, size_t B)
{
    size_t rows = count_rows(s, B);
    s->B = B;
    // States may be read before they are set, with the factor 0.
    device_zero(s->device, s->states, s->stages.states * B * s->n * sizeof *s->states);
    for (size_t b = 0; b < rows; b++)
        s->host_labels[b] = b < B ? labels[b] : (int32_t)dit_get_config(s->dit)->classes;
    device_upload(s->device, s->labels, s->host_labels, rows * sizeof *s->labels);
}

// Whether a stage is guided.
static bool is_guided(const struct sampler *s, const struct sampler_stage *stage)
{
    double low = s->settings.cfg_low, high = s->settings.cfg_high;
    return s->guidance &&
           ((low == 0 && high == 0) || (stage->noise_time >= low && stage->noise_time <= high));
}

// The model's output for the samples at their time.
static void evaluate_model(void *user)
{
    struct sampler *s = user;
    dit_forward(s->dit, s->out, s->states, s->t, s->labels, s->B);
}

// The same, guided.
static void evaluate_guided(void *user)
{
    struct sampler *s = user;
    struct device *d = s->device;
    const struct dit_config *c = dit_get_config(s->dit);
    size_t B = s->B, bytes = B * s->n * sizeof *s->states;
    if (s->guidance == GUIDANCE_MODEL) {
        evaluate_model(s);
        dit_forward(s->guide, s->out + B * s->stride, s->states, s->t, s->labels, B);
    } else {
        device_copy(d, s->input, s->states, bytes);
        device_copy(d, s->input + B * s->n, s->states, bytes);
        dit_forward(s->dit, s->out, s->input, s->t, s->labels, 2 * B);
    }
    op_guide(d, s->out, (float)s->settings.cfg_scale, (float)s->settings.cfg_rescale,
             s->settings.cfg_channels, s->stride, B, c->channels, c->input_size * c->input_size);
}

static void evaluate(struct sampler *s, const struct sampler_stage *stage)
{
    struct device *d = s->device;
    bool guided = is_guided(s, stage);
    void (*run)(void *user) = guided ? evaluate_guided : evaluate_model;
    size_t rows = count_rows(s, s->B);
    for (size_t b = 0; b < rows; b++)
        s->host_t[b] = (float)stage->t;
    device_upload(d, s->t, s->host_t, rows * sizeof *s->t);
    if (s->B == s->batch)
        device_repeat(d, &s->recorded[guided], run, s);
    else
        run(s);
}

void sampler_advance(struct sampler *s, const struct sampler_stage *stage)
{
    if (stage->evaluate)
        evaluate(s, stage);
    op_sample_step(s->device, s->states, stage->evaluate ? s->out : NULL, s->noise, &stage->step,
                   s->stages.states, s->stride, s->B, s->n);
}

int sampler_run(struct sampler *s, uint64_t first, const int32_t *labels, size_t B, float *latents,
                void (*done)(void *user), void *user)
{
    struct device *d = s->device;
    sampler_start(s, labels, B);
    op_fill_normal(d, s->states, s->settings.seed, RNG_SAMPLE_START, 0, first, B, s->n);
    for (size_t i = 0; i < s->stages.n; i++) {
        const struct sampler_stage *stage = &s->stages.all[i];
        if (stage_has_noise(stage))
            op_fill_normal(d, s->noise, s->settings.seed, RNG_SAMPLE_NOISE, stage->noise, first, B,
                           s->n);
        sampler_advance(s, stage);
        if (done && stage->evaluate)
            done(user);
    }
    device_download(d, latents, s->states, B * s->n * sizeof *latents);
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
