// A training step. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>

#include "lib/device-check.h"
#include "lib/diffusion.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/rng.h"
#include "lib/trainer.h"

const struct trainer_settings trainer_defaults = {
    .batch = 256,
    .micro_batch = 256,
    .mode = DIT_TRAIN,
    .lr = 1e-4,
    .beta1 = 0.9,
    .beta2 = 0.999,
    .eps = 1e-8,
    .ema_decay = 0.9999,
    .class_dropout = 0.1,
};

struct trainer {
    struct device *device;
    struct trainer_settings settings;
    struct diffusion diffusion;
    struct dit *dit;
    const struct layout *layout;
    size_t n; // elements of a latent
    uint64_t updates;
    double lr; // of the step that has begun
    // Device memory.
    float *arrays[TRAINER_ARRAYS]; // (layout->size) each
    float *x0, *noise, *xt;        // (micro,C,S,S)
    float *std;                    // (micro,C,S,S)
    float *out, *dout;             // (micro,2C,S,S)
    float *t, *mse, *vb;           // (micro)
    float *batch_losses;           // (2 batch): mse, then vb, of the step
    int32_t *labels;               // (micro)
    struct diffusion_terms *terms; // (micro)
    double *norm2;                 // (1)
    size_t memory;                 // bytes of all these
    void *record;                  // of run_pass
    // Host memory.
    int64_t *host_t;
    int32_t *host_labels;
    float *host_floats; // (micro): t on its way up
    struct diffusion_terms *host_terms;
    float *losses; // (2 batch): mse, then vb, of the step
};

static void *new_array(struct trainer *tr, size_t n, size_t size)
{
    tr->memory += n * size;
    return device_alloc(tr->device, n * size);
}

// Where activations are float32 the products take the master weights themselves.
static bool masters_are_weights(const struct trainer *tr)
{
    return tr->device->backend->act_size == sizeof(float);
}

size_t trainer_memory_needed(struct device *device, const struct dit_config *config,
                             const struct trainer_settings *settings)
{
    struct layout layout;
    size_t n = config->channels * config->input_size * config->input_size;
    size_t needed = dit_memory_needed(device, config, settings->micro_batch, settings->mode);
    if (dit_layout_init(&layout, config) == 0) {
        size_t arrays =
            device->backend->act_size == sizeof(float) ? TRAINER_ARRAYS - 1 : TRAINER_ARRAYS;
        needed += arrays * layout.size * sizeof(float);
    }
    layout_free(&layout);
    return needed + settings->micro_batch * (8 * n * sizeof(float) + 4 * sizeof(float) +
                                             sizeof(struct diffusion_terms));
}

struct trainer *trainer_new(struct device *device, const struct dit_config *config,
                            const struct trainer_settings *settings)
{
    struct trainer *tr = mem_new(1, sizeof *tr);
    if (!tr)
        return NULL;
    size_t micro = settings->micro_batch,
           n = config->channels * config->input_size * config->input_size;
    tr->device = device;
    tr->settings = *settings;
    tr->n = n;
    if (diffusion_init(&tr->diffusion, "") < 0 ||
        !(tr->dit = dit_new(device, config, micro, settings->mode, NULL)) ||
        !(tr->host_t = mem_new(micro, sizeof *tr->host_t)) ||
        !(tr->host_labels = mem_new(micro, sizeof *tr->host_labels)) ||
        !(tr->host_floats = mem_new(micro, sizeof *tr->host_floats)) ||
        !(tr->host_terms = mem_new(micro, sizeof *tr->host_terms)) ||
        !(tr->losses = mem_new(settings->batch, 2 * sizeof *tr->losses)))
        goto failed;
    tr->layout = dit_get_layout(tr->dit);
    tr->memory = dit_memory(tr->dit);
    bool complete = true;
    for (int i = 0; i < TRAINER_ARRAYS; i++) {
        tr->arrays[i] = i == TRAINER_MODEL && masters_are_weights(tr)
                            ? (float *)dit_weights(tr->dit)
                            : new_array(tr, tr->layout->size, sizeof(float));
        complete = complete && tr->arrays[i];
    }
    tr->x0 = new_array(tr, micro * n, sizeof(float));
    tr->noise = new_array(tr, micro * n, sizeof(float));
    tr->xt = new_array(tr, micro * n, sizeof(float));
    tr->std = new_array(tr, micro * n, sizeof(float));
    tr->out = new_array(tr, micro * n, 2 * sizeof(float));
    tr->dout = new_array(tr, micro * n, 2 * sizeof(float));
    tr->t = new_array(tr, micro, sizeof(float));
    tr->mse = new_array(tr, micro, sizeof(float));
    tr->vb = new_array(tr, micro, sizeof(float));
    tr->batch_losses = new_array(tr, settings->batch, 2 * sizeof(float));
    tr->labels = new_array(tr, micro, sizeof *tr->labels);
    tr->terms = new_array(tr, micro, sizeof *tr->terms);
    tr->norm2 = new_array(tr, 1, sizeof *tr->norm2);
    if (complete && tr->x0 && tr->noise && tr->xt && tr->std && tr->out && tr->dout && tr->t &&
        tr->mse && tr->vb && tr->batch_losses && tr->labels && tr->terms && tr->norm2)
        return tr;
    device_lacks(device, tr->memory,
                 "a smaller --micro-batch or --recompute light or block needs less",
                 "training in micro-batches of %zu", micro);
failed:
    trainer_free(tr);
    return NULL;
}

void trainer_free(struct trainer *tr)
{
    if (!tr)
        return;
    device_forget(tr->device, &tr->record);
    void *memory[] = {tr->batch_losses, tr->x0,    tr->noise, tr->xt,  tr->std,
                      tr->out,          tr->dout,  tr->t,     tr->mse, tr->vb,
                      tr->labels,       tr->terms, tr->norm2};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i])
            device_release(tr->device, memory[i]);
    for (int i = 0; i < TRAINER_ARRAYS; i++)
        if (tr->arrays[i] && !(i == TRAINER_MODEL && masters_are_weights(tr)))
            device_release(tr->device, tr->arrays[i]);
    dit_free(tr->dit);
    diffusion_free(&tr->diffusion);
    free(tr->host_t);
    free(tr->host_labels);
    free(tr->host_floats);
    free(tr->host_terms);
    free(tr->losses);
    free(tr);
}

struct dit *trainer_model(struct trainer *tr)
{
    return tr->dit;
}

size_t trainer_memory(const struct trainer *tr)
{
    return tr->memory;
}

void trainer_set(struct trainer *tr, enum trainer_array array, const struct param *param,
                 const float *values)
{
    device_upload(tr->device, tr->arrays[array] + param->offset, values,
                  param->count * sizeof *values);
}

int trainer_get(struct trainer *tr, enum trainer_array array, const struct param *param,
                float *values)
{
    device_download(tr->device, values, tr->arrays[array] + param->offset,
                    param->count * sizeof *values);
    return device_check(tr->device);
}

void trainer_set_weights(struct trainer *tr, const float *weights)
{
    size_t bytes = tr->layout->size * sizeof *weights;
    device_upload(tr->device, tr->arrays[TRAINER_MODEL], weights, bytes);
    device_upload(tr->device, tr->arrays[TRAINER_EMA], weights, bytes);
    trainer_weights_changed(tr);
}

void trainer_weights_changed(struct trainer *tr)
{
    if (!masters_are_weights(tr))
        op_to_act(tr->device, dit_weights(tr->dit), tr->arrays[TRAINER_MODEL], tr->layout->size);
}

uint64_t trainer_updates(const struct trainer *tr)
{
    return tr->updates;
}

void trainer_set_updates(struct trainer *tr, uint64_t updates)
{
    tr->updates = updates;
}

struct trainer_inputs trainer_inputs(struct trainer *tr)
{
    return (struct trainer_inputs){tr->x0, tr->noise, tr->host_t, tr->host_labels};
}

// Draws the inputs of samples first .. first + B - 1 of the step's batch.
static int draw_inputs(struct trainer *tr, uint64_t step, size_t first, size_t B, const float *mean,
                       const float *std, const int64_t *labels)
{
    struct device *d = tr->device;
    uint64_t seed = tr->settings.seed;
    size_t n = tr->n, classes = dit_get_config(tr->dit)->classes;
    device_upload(d, tr->x0, mean, B * n * sizeof *mean);
    if (std) {
        device_upload(d, tr->std, std, B * n * sizeof *std);
        op_fill_normal(d, tr->noise, seed, RNG_LATENT, (uint32_t)step, first, B, n);
        op_latent_draw(d, tr->x0, tr->x0, tr->std, tr->noise, B * n);
    }
    op_fill_normal(d, tr->noise, seed, RNG_NOISE, (uint32_t)step, first, B, n);
    for (size_t b = 0; b < B; b++) {
        struct rng time = {seed, RNG_TIME, (uint32_t)step, first + b};
        struct rng drop = {seed, RNG_DROP, (uint32_t)step, first + b};
        if (labels[b] >= (int64_t)classes)
            return error_set(STATUS_DATA, "label %lld in the data, but the model has %zu classes",
                             (long long)labels[b], classes);
        bool null = labels[b] < 0 || rng_uniform(&drop, 0) < tr->settings.class_dropout;
        tr->host_labels[b] = null ? (int32_t)classes : (int32_t)labels[b];
        tr->host_t[b] = (int64_t)rng_below(&time, 0, DIFFUSION_STEPS);
    }
    return 0;
}

struct pass {
    struct trainer *trainer;
    size_t B, total;
};

// From the noise of B samples to their gradients.
static void run_pass(void *user)
{
    struct pass *pass = user;
    struct trainer *tr = pass->trainer;
    struct device *d = tr->device;
    op_diffuse(d, tr->xt, tr->x0, tr->noise, tr->terms, pass->B, tr->n);
    dit_forward(tr->dit, tr->out, tr->xt, tr->t, tr->labels, pass->B);
    op_diffusion_loss(d, tr->mse, tr->vb, tr->dout, tr->out, tr->x0, tr->xt, tr->noise, tr->terms,
                      1.0f / (float)pass->total, pass->B, tr->n);
    dit_backward(tr->dit, tr->dout, tr->labels, pass->B);
}

// The gradients of B samples; their losses are then in tr->mse and tr->vb.
static void accumulate(struct trainer *tr, size_t B, size_t total)
{
    struct device *d = tr->device;
    for (size_t b = 0; b < B; b++) {
        tr->host_terms[b] = diffusion_terms(&tr->diffusion, (size_t)tr->host_t[b]);
        tr->host_floats[b] = (float)tr->host_t[b];
    }
    device_upload(d, tr->terms, tr->host_terms, B * sizeof *tr->terms);
    device_upload(d, tr->t, tr->host_floats, B * sizeof *tr->t);
    device_upload(d, tr->labels, tr->host_labels, B * sizeof *tr->labels);

    struct pass pass = {tr, B, total};
    if (B == tr->settings.micro_batch && total == tr->settings.batch)
        device_repeat(d, &tr->record, run_pass, &pass);
    else // the rest of a batch that is no multiple of it
        run_pass(&pass);
}

void trainer_accumulate(struct trainer *tr, size_t B, size_t total, float *mse, float *vb)
{
    accumulate(tr, B, total);
    device_download(tr->device, mse, tr->mse, B * sizeof *mse);
    device_download(tr->device, vb, tr->vb, B * sizeof *vb);
}

static void begin_update(struct trainer *tr, double lr)
{
    struct device *d = tr->device;
    const struct trainer_settings *s = &tr->settings;
    float *gradients = dit_gradients(tr->dit);
    op_sum_squares(d, tr->norm2, gradients, tr->layout->size);
    struct adamw adamw = {.lr = (float)lr,
                          .beta1 = (float)s->beta1,
                          .beta2 = (float)s->beta2,
                          .eps = (float)s->eps,
                          .weight_decay = (float)s->weight_decay,
                          .max_norm = (float)s->clip,
                          .ema_decay = s->ema_decay,
                          .step = tr->updates + 1};
    op_adamw(d, tr->arrays[TRAINER_MODEL], dit_weights(tr->dit), tr->arrays[TRAINER_EMA],
             tr->arrays[TRAINER_EXP_AVG], tr->arrays[TRAINER_EXP_AVG_SQ], gradients, tr->norm2,
             &adamw, tr->layout->size);
    device_zero(d, gradients, tr->layout->size * sizeof *gradients);
}

// The gradient's norm. An update where it is not finite has changed nothing.
static double finish_update(struct trainer *tr)
{
    double norm2;
    device_download(tr->device, &norm2, tr->norm2, sizeof norm2);
    tr->updates += isfinite(norm2);
    return sqrt(norm2);
}

double trainer_update(struct trainer *tr, double lr)
{
    begin_update(tr, lr);
    return finish_update(tr);
}

int trainer_begin(struct trainer *tr, uint64_t step, const float *mean, const float *std,
                  const int64_t *labels)
{
    struct device *d = tr->device;
    size_t batch = tr->settings.batch, micro = tr->settings.micro_batch;
    for (size_t at = 0; at < batch; at += micro) {
        size_t B = batch - at < micro ? batch - at : micro;
        if (draw_inputs(tr, step, at, B, mean + at * tr->n, std ? std + at * tr->n : NULL,
                        labels + at) < 0)
            return -1;
        accumulate(tr, B, batch);
        device_copy(d, tr->batch_losses + at, tr->mse, B * sizeof *tr->mse);
        device_copy(d, tr->batch_losses + batch + at, tr->vb, B * sizeof *tr->vb);
    }
    tr->lr = tr->settings.lr;
    if (step < tr->settings.lr_warmup_steps)
        tr->lr *= (double)(step + 1) / (double)tr->settings.lr_warmup_steps;
    begin_update(tr, tr->lr);
    return 0;
}

int trainer_finish(struct trainer *tr, struct trainer_stats *stats)
{
    size_t batch = tr->settings.batch;
    *stats = (struct trainer_stats){.lr = tr->lr};
    device_download(tr->device, tr->losses, tr->batch_losses, 2 * batch * sizeof *tr->losses);
    for (size_t b = 0; b < batch; b++) {
        stats->mse += tr->losses[b] / (double)batch;
        stats->vb += tr->losses[batch + b] / (double)batch;
    }
    stats->loss = stats->mse + stats->vb;
    stats->grad_norm = finish_update(tr);
    stats->skipped = !isfinite(stats->grad_norm);
    return device_check(tr->device);
}
