// One step of training: inputs are drawn, gradients summed over micro-batches and ranks, and the
// weights updated. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/device-check.h"
#include "lib/model/loss-batch.h"
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

#define WSD_CONSTANT 0.8 // of the steps

// How far `step` is from begin to end, as a share.
static double share_between(double step, double begin, double end)
{
    return end > begin ? fmin(1, fmax(0, (step - begin) / (end - begin))) : 1;
}

double trainer_learning_rate(const struct trainer_settings *s, uint64_t step)
{
    const double at = (double)step, warmup = (double)s->lr_warmup_steps;
    const double last = (double)s->last_step;
    double fall = 0; // of the way from lr to its final share
    if (step < s->lr_warmup_steps)
        return s->lr * (at + 1) / warmup;
    if (s->lr_schedule == LR_COSINE)
        fall = 0.5 - 0.5 * cos(M_PI * share_between(at, warmup, last));
    else if (s->lr_schedule == LR_WSD && at > WSD_CONSTANT * last)
        fall = sqrt(share_between(at, WSD_CONSTANT * last, last));
    return s->lr * (1 - fall * (1 - s->lr_final));
}

// Latents that were sent to the device. Device memory.
struct sent_latents {
    float *mean, *std; // (count,C,S,S)
    int32_t *labels;   // (count), -1: none
    bool spread;       // std is in use
};

struct trainer {
    struct device *device;
    struct trainer_settings settings;
    struct ranks *ranks;
    struct share share; // this rank's samples of the batch
    struct dit *dit;
    const struct layout *layout;
    size_t n; // elements of a latent
    uint64_t updates;
    double ema_start; // the product of the averaging's decays so far
    double ema_decay; // of the step that has begun, of the first average
    double lr;        // of the step that has begun
    struct outlier_window window;
    void *recorded[2]; // run_micro_batch as a GPU recorded it, without and with `last`

    void *memory; // on the device; holds all arrays up to norm2
    size_t memory_size;
    struct share part; // the elements of the layout whose state this rank holds
    // (part.count) each; TRAINER_MODEL lies in the model's memory where masters_are_weights
    float *arrays[TRAINER_ARRAYS_MAX];
    struct sent_latents sent[2]; // one for the running step, one to receive the next step's
    size_t last_sent;            // index into sent
    struct loss_batch batch;     // the micro-batch
    float *dout;                 // (micro, batch.stride)
    float *step_losses;          // (2 count): mse, then vb, of all the step's samples
    double *norm2;               // (1): the squared norm of the gradient

    // Host memory.
    int32_t *host_labels;    // (count)
    float *host_step_losses; // (2 count)
};

// Where activations are float32, the model computes with the master weights themselves.
static bool masters_are_weights(const struct device *device)
{
    return device->backend->act_size == sizeof(float);
}

// The elements of the layout whose state a rank holds. Parts are aligned as the layout's size is.
static struct share optimizer_part(const struct trainer *tr, int rank)
{
    size_t size = tr->layout->size;
    if (!tr->settings.shard_optimizer)
        return (struct share){0, size};
    struct share part = share_of(size / LAYOUT_ALIGN, rank, ranks_size(tr->ranks));
    return (struct share){part.first * LAYOUT_ALIGN, part.count * LAYOUT_ALIGN};
}

// A device that can't receive data during a step needs room for only one batch.
static size_t count_sent(const struct device *device)
{
    return device->backend->send ? 2 : 1;
}

// Lays out the device memory from address `base` and sets memory_size.
static void place_trainer(struct trainer *tr, const struct dit_config *config, uintptr_t base)
{
    size_t micro = tr->settings.micro_batch, count = tr->share.count, n = tr->n;
    struct arena arena = {base, tr->device->backend->act_size};
    for (size_t i = 0; i < trainer_arrays(tr); i++)
        if (i != TRAINER_MODEL || !masters_are_weights(tr->device))
            tr->arrays[i] = arena_take_float(&arena, tr->part.count);
    for (size_t i = 0; i < count_sent(tr->device); i++) {
        struct sent_latents *sent = &tr->sent[i];
        sent->mean = arena_take_float(&arena, count * n);
        sent->std = arena_take_float(&arena, count * n);
        sent->labels = arena_take(&arena, count * sizeof *sent->labels);
    }
    loss_batch_place(&tr->batch, &arena, tr->device, config, micro);
    tr->dout = arena_take_float(&arena, micro * tr->batch.stride);
    tr->step_losses = arena_take_float(&arena, 2 * count);
    tr->norm2 = arena_take(&arena, sizeof *tr->norm2);
    tr->memory_size = arena.next - base;
}

// Sets up a trainer without its memory and model.
static struct trainer plan_trainer(struct device *device, const struct dit_config *config,
                                   const struct trainer_settings *settings, struct ranks *ranks,
                                   const struct layout *layout)
{
    struct trainer tr = {.device = device,
                         .settings = *settings,
                         .ranks = ranks,
                         .share = ranks_share(ranks, settings->batch),
                         .layout = layout,
                         .n = config->channels * config->input_size * config->input_size};
    tr.part = optimizer_part(&tr, ranks_rank(ranks));
    place_trainer(&tr, config, 0);
    return tr;
}

size_t trainer_memory_needed(struct device *device, const struct dit_config *config,
                             const struct trainer_settings *settings, struct ranks *ranks)
{
    struct layout layout;
    size_t needed = dit_memory_needed(device, config, settings->micro_batch, settings->mode);
    if (dit_layout_init(&layout, config) == 0)
        needed += plan_trainer(device, config, settings, ranks, &layout).memory_size;
    layout_free(&layout);
    return needed;
}

struct trainer *trainer_new(struct device *device, const struct dit_config *config,
                            const struct trainer_settings *settings, struct ranks *ranks)
{
    struct trainer *tr = mem_new(1, sizeof *tr);
    struct dit *dit = dit_new(device, config, settings->micro_batch, settings->mode, NULL);
    if (!tr || !dit) {
        dit_free(dit);
        free(tr);
        return NULL;
    }
    *tr = plan_trainer(device, config, settings, ranks, dit_get_layout(dit));
    tr->dit = dit;
    tr->ema_start = 1;
    if (!(tr->host_labels = mem_new(tr->share.count, sizeof *tr->host_labels)) ||
        !(tr->host_step_losses = mem_new(tr->share.count, 2 * sizeof *tr->host_step_losses)))
        goto failed;
    if (!(tr->memory = device_alloc(device, tr->memory_size))) {
        device_lacks(device, trainer_memory(tr),
                     "a smaller --micro-batch or --recompute light or block needs less",
                     "training in micro-batches of %zu", settings->micro_batch);
        goto failed;
    }
    place_trainer(tr, config, (uintptr_t)tr->memory);
    if (masters_are_weights(device))
        tr->arrays[TRAINER_MODEL] = (float *)dit_weights(dit) + tr->part.first;
    if (loss_batch_prepare(&tr->batch, config, &settings->loss) == 0)
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
        device_forget(tr->device, &tr->recorded[i]);
    if (tr->memory)
        device_release(tr->device, tr->memory);
    dit_free(tr->dit);
    free(tr->host_labels);
    free(tr->host_step_losses);
    free(tr);
}

const struct trainer_settings *trainer_get_settings(const struct trainer *tr)
{
    return &tr->settings;
}

size_t trainer_arrays(const struct trainer *tr)
{
    return TRAINER_ARRAYS + tr->settings.n_more;
}

struct dit *trainer_model(struct trainer *tr)
{
    return tr->dit;
}

size_t trainer_memory(const struct trainer *tr)
{
    return dit_memory(tr->dit) + tr->memory_size;
}

// The elements of a parameter that lie in a part of the layout, counted from the parameter's first.
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
        struct share its = overlap(param, optimizer_part(tr, rank));
        if (its.count)
            ranks_receive(tr->ranks, rank, values + its.first, its.count * sizeof *values);
    }
    return device_check(tr->device);
}

void trainer_set_weights(struct trainer *tr, const float *weights)
{
    size_t bytes = tr->part.count * sizeof *weights;
    device_upload(tr->device, tr->arrays[TRAINER_MODEL], weights + tr->part.first, bytes);
    if (!tr->settings.shard_optimizer) // the ranks' libm may differ
        ranks_device_broadcast(tr->ranks, tr->device, tr->arrays[TRAINER_MODEL], bytes, 0);
    ranks_device_wait(tr->ranks, tr->device);
    device_copy(tr->device, tr->arrays[TRAINER_EMA], tr->arrays[TRAINER_MODEL], bytes);
    for (size_t i = TRAINER_ARRAYS; i < trainer_arrays(tr); i++)
        device_copy(tr->device, tr->arrays[i], tr->arrays[TRAINER_MODEL], bytes);
    trainer_weights_changed(tr);
}

// Every rank receives the parts of the weights that the others updated.
static void share_weights(struct trainer *tr)
{
    if (!tr->settings.shard_optimizer)
        return;
    size_t size = tr->device->backend->act_size;
    for (int rank = 0; rank < ranks_size(tr->ranks); rank++) {
        struct share part = optimizer_part(tr, rank);
        ranks_device_broadcast(tr->ranks, tr->device,
                               act_at(tr->device, dit_weights(tr->dit), part.first),
                               part.count * size, rank);
    }
    ranks_device_wait(tr->ranks, tr->device);
}

void trainer_weights_changed(struct trainer *tr)
{
    if (!masters_are_weights(tr->device))
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

double trainer_ema_start(const struct trainer *tr)
{
    return tr->ema_start;
}

void trainer_set_ema_start(struct trainer *tr, double share)
{
    tr->ema_start = share;
}

struct trainer_inputs trainer_inputs(struct trainer *tr)
{
    return (struct trainer_inputs){tr->batch.x0, tr->batch.noise};
}

void trainer_set_conditions(struct trainer *tr, const double *t, const int32_t *labels, size_t B)
{
    loss_batch_set_times(&tr->batch, t, B);
    device_upload(tr->device, tr->batch.labels, labels, B * sizeof *labels);
}

struct outlier_window *trainer_window(struct trainer *tr)
{
    return &tr->window;
}

int trainer_send(struct trainer *tr, const float *mean, const float *std, const int64_t *labels)
{
    struct device *d = tr->device;
    size_t count = tr->share.count;
    for (size_t b = 0; b < count; b++) {
        if (dit_check_label(dit_get_config(tr->dit), labels[b]) < 0)
            return error_prefix("the data");
        tr->host_labels[b] = labels[b] < 0 ? -1 : (int32_t)labels[b];
    }
    tr->last_sent = (tr->last_sent + 1) % count_sent(d);
    struct sent_latents *sent = &tr->sent[tr->last_sent];
    sent->spread = std;
    device_send(d, sent->mean, mean, count * tr->n * sizeof *mean);
    if (std)
        device_send(d, sent->std, std, count * tr->n * sizeof *std);
    device_send(d, sent->labels, tr->host_labels, count * sizeof *tr->host_labels);
    return 0;
}

// Draws the inputs of the micro-batch: the rank's samples at .. at + B - 1.
static void draw_micro_batch(struct trainer *tr, uint64_t step, size_t at, size_t B)
{
    const struct sent_latents *sent = &tr->sent[tr->last_sent];
    uint64_t seed = tr->settings.seed, first = tr->share.first + at;
    loss_batch_draw(&tr->batch, sent->mean + at * tr->n,
                    sent->spread ? sent->std + at * tr->n : NULL, seed, step, first, B);
    op_drop_labels(tr->device, tr->batch.labels, sent->labels + at,
                   (int32_t)dit_get_config(tr->dit)->classes, tr->settings.class_dropout, seed,
                   RNG_DROP, (uint32_t)step, first, B);
}

// A micro-batch of B samples. The gradients of their losses / total are added up.
struct micro_batch {
    struct trainer *trainer;
    size_t B, total;
    bool last; // of the step: gradients are summed over the ranks as they become complete
};

// Starts to sum complete gradients over the ranks: on the rank that updates their weights, or on
// all.
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
        struct share part = optimizer_part(tr, rank);
        size_t from = part.first > begin ? part.first : begin;
        size_t to = part.first + part.count < end ? part.first + part.count : end;
        if (to > from)
            ranks_device_sum(tr->ranks, tr->device, gradients + from, to - from, GROUP_FLOAT, rank);
    }
}

// Forward and backward. A GPU records this once and replays it.
static void run_micro_batch(void *user)
{
    struct micro_batch *micro = user;
    struct trainer *tr = micro->trainer;
    loss_batch_forward(&tr->batch, tr->dit, tr->dout, 1.0f / (float)micro->total, micro->B);
    dit_backward(tr->dit, tr->dout, tr->batch.labels, micro->B, micro->last ? sum_gradients : NULL,
                 tr);
    if (micro->last)
        ranks_device_wait(tr->ranks, tr->device);
}

// The gradients of B samples; their losses are then in tr->batch.
static void accumulate(struct trainer *tr, size_t B, size_t total, bool last)
{
    struct micro_batch micro = {tr, B, total, last};
    if (B == tr->settings.micro_batch && total == tr->settings.batch)
        device_repeat(tr->device, &tr->recorded[last], run_micro_batch, &micro);
    else // the smaller last micro-batch of a step
        run_micro_batch(&micro);
}

void trainer_accumulate(struct trainer *tr, size_t B, size_t total, float *mse, float *vb)
{
    accumulate(tr, B, total, false);
    device_download(tr->device, mse, tr->batch.mse, B * sizeof *mse);
    device_download(tr->device, vb, tr->batch.vb, B * sizeof *vb);
}

// Without a warm-up the averaged weights of a short run are mostly the first ones, which are noise.
static double next_ema_decay(const struct trainer *tr, double decay)
{
    double n = (double)tr->updates;
    return tr->settings.ema_warmup ? fmin(decay, (1 + n) / (10 + n)) : decay;
}

static double next_decay(const struct trainer *tr, const struct average *average)
{
    return average->width > 0 ? average_power_decay(average->width, tr->updates + 1)
                              : next_ema_decay(tr, average->decay);
}

static void measure_gradient(struct trainer *tr)
{
    struct device *d = tr->device;
    const float *gradients = dit_gradients(tr->dit);
    op_sum_squares(d, tr->norm2, gradients + tr->part.first, tr->part.count);
    if (tr->settings.shard_optimizer) {
        ranks_device_sum(tr->ranks, d, tr->norm2, 1, GROUP_DOUBLE, GROUP_ALL);
        ranks_device_wait(tr->ranks, d);
    }
}

static void clear_gradients(struct trainer *tr)
{
    float *gradients = dit_gradients(tr->dit);
    device_zero(tr->device, gradients, tr->layout->size * sizeof *gradients);
}

static void begin_update(struct trainer *tr, double lr)
{
    struct device *d = tr->device;
    const struct trainer_settings *s = &tr->settings;
    tr->ema_decay = next_ema_decay(tr, s->ema_decay);
    const float *gradients = dit_gradients(tr->dit);
    struct adamw adamw = {.lr = (float)lr,
                          .beta1 = (float)s->beta1,
                          .beta2 = (float)s->beta2,
                          .eps = (float)s->eps,
                          .weight_decay = (float)s->weight_decay,
                          .max_norm = (float)s->clip,
                          .ema_decay = tr->ema_decay,
                          .step = tr->updates + 1};
    op_adamw(d, tr->arrays[TRAINER_MODEL], act_at(d, dit_weights(tr->dit), tr->part.first),
             tr->arrays[TRAINER_EMA], tr->arrays[TRAINER_EXP_AVG], tr->arrays[TRAINER_EXP_AVG_SQ],
             gradients + tr->part.first, tr->norm2, &adamw, tr->part.count);
    for (size_t i = 0; i < s->n_more; i++)
        op_average(d, tr->arrays[TRAINER_ARRAYS + i], tr->arrays[TRAINER_MODEL], tr->norm2,
                   next_decay(tr, &s->more[i]), tr->part.count);
    share_weights(tr);
    clear_gradients(tr);
}

// Returns the gradient's norm. Where it isn't finite, op_adamw has changed nothing.
static double finish_update(struct trainer *tr, bool updated)
{
    double norm2;
    device_download(tr->device, &norm2, tr->norm2, sizeof norm2);
    if (updated && isfinite(norm2)) {
        tr->updates++;
        tr->ema_start *= tr->ema_decay;
    }
    return sqrt(norm2);
}

double trainer_update(struct trainer *tr, double lr)
{
    measure_gradient(tr);
    begin_update(tr, lr);
    return finish_update(tr, true);
}

void trainer_begin(struct trainer *tr, uint64_t step)
{
    struct device *d = tr->device;
    size_t count = tr->share.count, micro = tr->settings.micro_batch;
    device_send_wait(d);
    for (size_t at = 0; at < count; at += micro) {
        size_t B = count - at < micro ? count - at : micro;
        draw_micro_batch(tr, step, at, B);
        accumulate(tr, B, tr->settings.batch, at + B == count);
        device_copy(d, tr->step_losses + at, tr->batch.mse, B * sizeof *tr->step_losses);
        device_copy(d, tr->step_losses + count + at, tr->batch.vb, B * sizeof *tr->step_losses);
    }
    tr->lr = trainer_learning_rate(&tr->settings, step);
    measure_gradient(tr);
    if (tr->settings.skip_z == 0) // else trainer_finish decides
        begin_update(tr, tr->lr);
}

// Updates the weights, unless the step is an outlier, and returns whether it is: the same on all
// ranks, whose sums are. The device waits meanwhile for the host.
static bool judge_step(struct trainer *tr, double loss)
{
    double norm2;
    device_download(tr->device, &norm2, tr->norm2, sizeof norm2);
    const double norm = sqrt(norm2);
    const bool finite = isfinite(loss) && isfinite(norm);
    const bool outlier = finite && outlier_is(&tr->window, tr->settings.skip_z, loss, norm);
    if (finite)
        outlier_add(&tr->window, loss, norm);
    if (outlier)
        clear_gradients(tr);
    else
        begin_update(tr, tr->lr);
    return outlier;
}

int trainer_finish(struct trainer *tr, struct trainer_stats *stats)
{
    size_t count = tr->share.count;
    double losses[2] = {0}; // mse, vb
    float *each = tr->host_step_losses;
    device_download(tr->device, each, tr->step_losses, 2 * count * sizeof *each);
    if (device_check(tr->device) <
        0) // checked before ranks_sum, in which the other ranks wait for this one
        return -1;
    for (size_t b = 0; b < count; b++) {
        losses[0] += each[b] / (double)tr->settings.batch;
        losses[1] += each[count + b] / (double)tr->settings.batch;
    }
    ranks_sum(tr->ranks, losses, 2);
    *stats = (struct trainer_stats){
        .loss = losses[0] + losses[1], .mse = losses[0], .vb = losses[1], .lr = tr->lr};
    stats->outlier = tr->settings.skip_z > 0 && judge_step(tr, stats->loss);
    stats->grad_norm = finish_update(tr, !stats->outlier);
    stats->skipped = stats->outlier || !isfinite(stats->grad_norm);
    return device_check(tr->device);
}

int trainer_evaluate(struct loss_batch *batch, struct dit *model, const float *mean,
                     const float *std, const int32_t *labels, size_t n, double *loss)
{
    const uint64_t seed = 0, step = UINT32_MAX; // training never reaches this step
    struct device *d = batch->device;
    size_t bytes = batch->n * sizeof *mean;
    double sum = 0;
    float *each = mem_new(2 * batch->rows, sizeof *each); // mse, then vb
    int rc = each ? 0 : -1;
    for (size_t at = 0, B; rc == 0 && at < n; at += B) {
        B = n - at < batch->rows ? n - at : batch->rows;
        device_upload(d, batch->labels, labels + at, B * sizeof *labels);
        device_upload(d, batch->x0, mean + at * batch->n, B * bytes);
        if (std) // xt is free until forward
            device_upload(d, batch->xt, std + at * batch->n, B * bytes);
        loss_batch_draw(batch, batch->x0, std ? batch->xt : NULL, seed, step, at, B);
        loss_batch_forward(batch, model, NULL, 0, B);
        device_download(d, each, batch->mse, B * sizeof *each);
        device_download(d, each + B, batch->vb, B * sizeof *each);
        rc = device_check(d);
        for (size_t i = 0; rc == 0 && i < 2 * B; i++)
            sum += each[i];
    }
    free(each);
    *loss = sum / (double)n;
    return rc;
}
