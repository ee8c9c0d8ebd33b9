// A training step. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/device-check.h"
#include "lib/model/diffusion.h"
#include "lib/model/trainer.h"

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

// Records on the device: those of the step that runs, and of the next. Device memory.
struct records {
    float *mean, *std; // (count,C,S,S)
    int32_t *labels;   // (count), -1: none
    bool spread;       // there is a std
};

struct trainer {
    struct device *device;
    struct trainer_settings settings;
    struct ranks *ranks;
    struct share share; // of the batch
    struct dit *dit;
    const struct layout *layout;
    size_t n; // elements of a latent
    uint64_t updates;
    double lr; // of the step that has begun
    // Device memory.
    struct share part;             // of the layout: what the arrays below hold
    float *arrays[TRAINER_ARRAYS]; // (part.count) each
    struct records sent[2];
    size_t last;                   // of these, the one sent last
    float *x0, *noise, *xt;        // (micro,C,S,S)
    float *out, *dout;             // (micro,2C,S,S)
    float *t, *mse, *vb;           // (micro)
    float *batch_losses;           // (2 count): mse, then vb, of the step
    int32_t *labels;               // (micro)
    struct diffusion_terms *terms; // (micro)
    struct diffusion_terms *table; // (DIFFUSION_STEPS)
    double *norm2;                 // (1)
    size_t memory;                 // bytes of all these
    void *records[2];              // of run_pass: before the last of a step, and the last
    // Host memory.
    int32_t *host_labels; // (count)
    float *losses;        // (2 count): mse, then vb, of the step
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

// The part of the layout whose arrays a rank holds; the layout's size is a multiple of its
// alignment.
static struct share part_of(const struct trainer_settings *settings, const struct ranks *ranks,
                            int rank, size_t size)
{
    if (!settings->shard_optimizer)
        return (struct share){0, size};
    struct share part = share_of(size / LAYOUT_ALIGN, rank, ranks_size(ranks));
    return (struct share){part.first * LAYOUT_ALIGN, part.count * LAYOUT_ALIGN};
}

// Where nothing can be sent beside a step, there is no need for two.
static size_t count_sent(const struct device *device)
{
    return device->backend->send ? 2 : 1;
}

size_t trainer_memory_needed(struct device *device, const struct dit_config *config,
                             const struct trainer_settings *settings, const struct ranks *ranks)
{
    struct layout layout;
    size_t n = config->channels * config->input_size * config->input_size;
    size_t needed = dit_memory_needed(device, config, settings->micro_batch, settings->mode);
    if (dit_layout_init(&layout, config) == 0) {
        size_t arrays =
            device->backend->act_size == sizeof(float) ? TRAINER_ARRAYS - 1 : TRAINER_ARRAYS;
        needed +=
            arrays * part_of(settings, ranks, ranks_rank(ranks), layout.size).count * sizeof(float);
    }
    layout_free(&layout);
    return needed +
           count_sent(device) * ranks_share(ranks, settings->batch).count * 2 * n * sizeof(float) +
           settings->micro_batch *
               (7 * n * sizeof(float) + 4 * sizeof(float) + sizeof(struct diffusion_terms));
}

static struct share part_of_rank(const struct trainer *tr, int rank)
{
    return part_of(&tr->settings, tr->ranks, rank, tr->layout->size);
}

// Every array on the device. False: one could not be had.
static bool allocate(struct trainer *tr)
{
    size_t micro = tr->settings.micro_batch, count = tr->share.count, n = tr->n;
    bool complete = true;
    for (int i = 0; i < TRAINER_ARRAYS; i++) {
        tr->arrays[i] = i == TRAINER_MODEL && masters_are_weights(tr)
                            ? (float *)dit_weights(tr->dit) + tr->part.first
                            : new_array(tr, tr->part.count, sizeof(float));
        complete = complete && tr->arrays[i];
    }
    for (size_t i = 0; i < count_sent(tr->device); i++) {
        struct records *r = &tr->sent[i];
        r->mean = new_array(tr, count * n, sizeof(float));
        r->std = new_array(tr, count * n, sizeof(float));
        r->labels = new_array(tr, count, sizeof *r->labels);
        complete = complete && r->mean && r->std && r->labels;
    }
    tr->x0 = new_array(tr, micro * n, sizeof(float));
    tr->noise = new_array(tr, micro * n, sizeof(float));
    tr->xt = new_array(tr, micro * n, sizeof(float));
    tr->out = new_array(tr, micro * n, 2 * sizeof(float));
    tr->dout = new_array(tr, micro * n, 2 * sizeof(float));
    tr->t = new_array(tr, micro, sizeof(float));
    tr->mse = new_array(tr, micro, sizeof(float));
    tr->vb = new_array(tr, micro, sizeof(float));
    tr->batch_losses = new_array(tr, count, 2 * sizeof(float));
    tr->labels = new_array(tr, micro, sizeof *tr->labels);
    tr->terms = new_array(tr, micro, sizeof *tr->terms);
    tr->table = new_array(tr, DIFFUSION_STEPS, sizeof *tr->table);
    tr->norm2 = new_array(tr, 1, sizeof *tr->norm2);
    return complete && tr->x0 && tr->noise && tr->xt && tr->out && tr->dout && tr->t && tr->mse &&
           tr->vb && tr->batch_losses && tr->labels && tr->terms && tr->table && tr->norm2;
}

struct trainer *trainer_new(struct device *device, const struct dit_config *config,
                            const struct trainer_settings *settings, struct ranks *ranks)
{
    struct trainer *tr = mem_new(1, sizeof *tr);
    if (!tr)
        return NULL;
    tr->device = device;
    tr->settings = *settings;
    tr->ranks = ranks;
    tr->share = ranks_share(ranks, settings->batch);
    tr->n = config->channels * config->input_size * config->input_size;
    if (!(tr->dit = dit_new(device, config, settings->micro_batch, settings->mode, NULL)) ||
        !(tr->host_labels = mem_new(tr->share.count, sizeof *tr->host_labels)) ||
        !(tr->losses = mem_new(tr->share.count, 2 * sizeof *tr->losses)))
        goto failed;
    tr->layout = dit_get_layout(tr->dit);
    tr->memory = dit_memory(tr->dit);
    tr->part = part_of_rank(tr, ranks_rank(ranks));
    if (!allocate(tr)) {
        device_lacks(device, tr->memory,
                     "a smaller --micro-batch or --recompute light or block needs less",
                     "training in micro-batches of %zu", settings->micro_batch);
        goto failed;
    }
    if (diffusion_upload_terms(device, tr->table) == 0)
        return tr;
failed:
    trainer_free(tr);
    return NULL;
}

void trainer_free(struct trainer *tr)
{
    if (!tr)
        return;
    for (size_t i = 0; i < 2; i++)
        device_forget(tr->device, &tr->records[i]);
    void *memory[] = {tr->x0,
                      tr->noise,
                      tr->xt,
                      tr->out,
                      tr->dout,
                      tr->t,
                      tr->mse,
                      tr->vb,
                      tr->batch_losses,
                      tr->labels,
                      tr->terms,
                      tr->table,
                      tr->norm2,
                      tr->sent[0].mean,
                      tr->sent[0].std,
                      tr->sent[0].labels,
                      tr->sent[1].mean,
                      tr->sent[1].std,
                      tr->sent[1].labels};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i])
            device_release(tr->device, memory[i]);
    for (int i = 0; i < TRAINER_ARRAYS; i++)
        if (tr->arrays[i] && !(i == TRAINER_MODEL && masters_are_weights(tr)))
            device_release(tr->device, tr->arrays[i]);
    dit_free(tr->dit);
    free(tr->host_labels);
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

// The elements of a parameter that lie in a part of the layout: first counts from the parameter's.
static struct share overlap(const struct param *param, struct share part)
{
    size_t end = param->offset + param->count, part_end = part.first + part.count;
    size_t from = param->offset > part.first ? param->offset : part.first;
    size_t to = end < part_end ? end : part_end;
    return (struct share){from - param->offset, to > from ? to - from : 0};
}

void trainer_set(struct trainer *tr, enum trainer_array array, const struct param *param,
                 const float *values)
{
    struct share own = overlap(param, tr->part);
    if (own.count)
        device_upload(tr->device, tr->arrays[array] + param->offset + own.first - tr->part.first,
                      values + own.first, own.count * sizeof *values);
}

int trainer_get(struct trainer *tr, enum trainer_array array, const struct param *param,
                float *values)
{
    struct share own = overlap(param, tr->part);
    if (own.count)
        device_download(tr->device, values + own.first,
                        tr->arrays[array] + param->offset + own.first - tr->part.first,
                        own.count * sizeof *values);
    for (int rank = 1; tr->settings.shard_optimizer && rank < ranks_size(tr->ranks); rank++) {
        struct share its = overlap(param, part_of_rank(tr, rank));
        if (its.count)
            ranks_bring(tr->ranks, rank, values + its.first, its.count * sizeof *values);
    }
    return device_check(tr->device);
}

void trainer_set_weights(struct trainer *tr, const float *weights)
{
    size_t bytes = tr->part.count * sizeof *weights;
    device_upload(tr->device, tr->arrays[TRAINER_MODEL], weights + tr->part.first, bytes);
    if (!tr->settings.shard_optimizer) // ranks' mathematical libraries may differ
        ranks_device_broadcast(tr->ranks, tr->device, tr->arrays[TRAINER_MODEL], bytes, 0);
    ranks_device_wait(tr->ranks, tr->device);
    device_copy(tr->device, tr->arrays[TRAINER_EMA], tr->arrays[TRAINER_MODEL], bytes);
    trainer_weights_changed(tr);
}

// All ranks' parts of the weights to all.
static void share_weights(struct trainer *tr)
{
    if (!tr->settings.shard_optimizer)
        return;
    size_t size = tr->device->backend->act_size;
    for (int rank = 0; rank < ranks_size(tr->ranks); rank++) {
        struct share part = part_of_rank(tr, rank);
        ranks_device_broadcast(tr->ranks, tr->device,
                               act_at(tr->device, dit_weights(tr->dit), part.first),
                               part.count * size, rank);
    }
    ranks_device_wait(tr->ranks, tr->device);
}

void trainer_weights_changed(struct trainer *tr)
{
    if (!masters_are_weights(tr))
        op_to_act(tr->device, act_at(tr->device, dit_weights(tr->dit), tr->part.first),
                  tr->arrays[TRAINER_MODEL], tr->part.count);
    share_weights(tr);
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
    return (struct trainer_inputs){tr->x0, tr->noise};
}

void trainer_set_conditions(struct trainer *tr, const int64_t *t, const int32_t *labels, size_t B)
{
    struct device *d = tr->device;
    for (size_t b = 0; b < B; b++) {
        float time = (float)t[b];
        device_copy(d, tr->terms + b, tr->table + t[b], sizeof *tr->terms);
        device_upload(d, tr->t + b, &time, sizeof time);
    }
    device_upload(d, tr->labels, labels, B * sizeof *labels);
}

int trainer_send(struct trainer *tr, const float *mean, const float *std, const int64_t *labels)
{
    struct device *d = tr->device;
    size_t count = tr->share.count, classes = dit_get_config(tr->dit)->classes;
    for (size_t b = 0; b < count; b++) {
        if (labels[b] >= (int64_t)classes)
            return error_set(STATUS_DATA, "label %lld in the data, but the model has %zu classes",
                             (long long)labels[b], classes);
        tr->host_labels[b] = labels[b] < 0 ? -1 : (int32_t)labels[b];
    }
    tr->last = (tr->last + 1) % count_sent(d);
    struct records *r = &tr->sent[tr->last];
    r->spread = std;
    device_send(d, r->mean, mean, count * tr->n * sizeof *mean);
    if (std)
        device_send(d, r->std, std, count * tr->n * sizeof *std);
    device_send(d, r->labels, tr->host_labels, count * sizeof *tr->host_labels);
    return 0;
}

// Draws the inputs of the rank's samples at .. at + B - 1 of those sent last.
static void draw_inputs(struct trainer *tr, uint64_t step, size_t at, size_t B)
{
    struct device *d = tr->device;
    const struct records *r = &tr->sent[tr->last];
    uint64_t seed = tr->settings.seed, first = tr->share.first + at;
    size_t n = tr->n;
    const float *mean = r->mean + at * n;
    if (r->spread) {
        op_fill_normal(d, tr->noise, seed, RNG_LATENT, (uint32_t)step, first, B, n);
        op_latent_draw(d, tr->x0, mean, r->std + at * n, tr->noise, B * n);
    } else {
        device_copy(d, tr->x0, mean, B * n * sizeof *mean);
    }
    op_fill_normal(d, tr->noise, seed, RNG_NOISE, (uint32_t)step, first, B, n);
    op_draw_times(d, tr->t, tr->terms, tr->table, DIFFUSION_STEPS, seed, RNG_TIME, (uint32_t)step,
                  first, B);
    op_drop_labels(d, tr->labels, r->labels + at, (int32_t)dit_get_config(tr->dit)->classes,
                   tr->settings.class_dropout, seed, RNG_DROP, (uint32_t)step, first, B);
}

struct pass {
    struct trainer *trainer;
    size_t B, total;
    bool last; // of the step: gradients that are complete are summed over the ranks
};

// Gradients that are complete: each to the rank that updates their weights, or to all.
static void sum_gradients(void *user, size_t begin, size_t end)
{
    struct trainer *tr = user;
    float *gradients = dit_gradients(tr->dit);
    if (!tr->settings.shard_optimizer) {
        ranks_device_sum(tr->ranks, tr->device, gradients + begin, end - begin, GROUP_FLOAT,
                         GROUP_ALL);
        return;
    }
    for (int rank = 0; rank < ranks_size(tr->ranks); rank++) {
        struct share part = part_of_rank(tr, rank);
        size_t from = part.first > begin ? part.first : begin;
        size_t to = part.first + part.count < end ? part.first + part.count : end;
        if (to > from)
            ranks_device_sum(tr->ranks, tr->device, gradients + from, to - from, GROUP_FLOAT, rank);
    }
}

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
    dit_backward(tr->dit, tr->dout, tr->labels, pass->B, pass->last ? sum_gradients : NULL, tr);
    if (pass->last)
        ranks_device_wait(tr->ranks, d);
}

// The gradients of B samples; their losses are then in tr->mse and tr->vb.
static void accumulate(struct trainer *tr, size_t B, size_t total, bool last)
{
    struct pass pass = {tr, B, total, last};
    if (B == tr->settings.micro_batch && total == tr->settings.batch)
        device_repeat(tr->device, &tr->records[last], run_pass, &pass);
    else // the rest of a batch that is no multiple of it
        run_pass(&pass);
}

void trainer_accumulate(struct trainer *tr, size_t B, size_t total, float *mse, float *vb)
{
    accumulate(tr, B, total, false);
    device_download(tr->device, mse, tr->mse, B * sizeof *mse);
    device_download(tr->device, vb, tr->vb, B * sizeof *vb);
}

static void begin_update(struct trainer *tr, double lr)
{
    struct device *d = tr->device;
    const struct trainer_settings *s = &tr->settings;
    float *gradients = dit_gradients(tr->dit);
    op_sum_squares(d, tr->norm2, gradients + tr->part.first, tr->part.count);
    if (s->shard_optimizer) {
        ranks_device_sum(tr->ranks, d, tr->norm2, 1, GROUP_DOUBLE, GROUP_ALL);
        ranks_device_wait(tr->ranks, d);
    }
    struct adamw adamw = {.lr = (float)lr,
                          .beta1 = (float)s->beta1,
                          .beta2 = (float)s->beta2,
                          .eps = (float)s->eps,
                          .weight_decay = (float)s->weight_decay,
                          .max_norm = (float)s->clip,
                          .ema_decay = s->ema_decay,
                          .step = tr->updates + 1};
    op_adamw(d, tr->arrays[TRAINER_MODEL], act_at(d, dit_weights(tr->dit), tr->part.first),
             tr->arrays[TRAINER_EMA], tr->arrays[TRAINER_EXP_AVG], tr->arrays[TRAINER_EXP_AVG_SQ],
             gradients + tr->part.first, tr->norm2, &adamw, tr->part.count);
    share_weights(tr);
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

void trainer_begin(struct trainer *tr, uint64_t step)
{
    struct device *d = tr->device;
    size_t count = tr->share.count, micro = tr->settings.micro_batch;
    device_send_wait(d);
    for (size_t at = 0; at < count; at += micro) {
        size_t B = count - at < micro ? count - at : micro;
        draw_inputs(tr, step, at, B);
        accumulate(tr, B, tr->settings.batch, at + B == count);
        device_copy(d, tr->batch_losses + at, tr->mse, B * sizeof *tr->mse);
        device_copy(d, tr->batch_losses + count + at, tr->vb, B * sizeof *tr->vb);
    }
    tr->lr = tr->settings.lr;
    if (step < tr->settings.lr_warmup_steps)
        tr->lr *= (double)(step + 1) / (double)tr->settings.lr_warmup_steps;
    begin_update(tr, tr->lr);
}

int trainer_finish(struct trainer *tr, struct trainer_stats *stats)
{
    size_t count = tr->share.count;
    double losses[2] = {0}; // mse, vb
    device_download(tr->device, tr->losses, tr->batch_losses, 2 * count * sizeof *tr->losses);
    if (device_check(tr->device) < 0) // before the others are waited for, as they wait for this one
        return -1;
    for (size_t b = 0; b < count; b++) {
        losses[0] += tr->losses[b] / (double)tr->settings.batch;
        losses[1] += tr->losses[count + b] / (double)tr->settings.batch;
    }
    ranks_sum(tr->ranks, losses, 2);
    *stats = (struct trainer_stats){
        .loss = losses[0] + losses[1], .mse = losses[0], .vb = losses[1], .lr = tr->lr};
    stats->grad_norm = finish_update(tr);
    stats->skipped = !isfinite(stats->grad_norm);
    return device_check(tr->device);
}
