// Training a DiT: what a step does and the state that it changes. SPDX-License-Identifier: MIT
#ifndef DIT_TRAINER_H
#define DIT_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/model/dit.h"
#include "lib/model/ranks.h"

#define TRAINER_STEPS_DEFAULT 400000 // the steps of the published models

struct trainer_settings {
    uint64_t seed;
    size_t batch;       // samples of a step, of all ranks
    size_t micro_batch; // of this rank's, those that go through the model at once
    enum dit_mode mode; // DIT_TRAIN, or one that keeps less, which on a CPU changes no bit
    double lr;
    uint64_t lr_warmup_steps; // the rate rises linearly over these
    double beta1, beta2, eps, weight_decay;
    double clip; // the gradient's norm is scaled down to this; 0: no clipping
    double ema_decay;
    double class_dropout; // share of labels replaced by the null class
    bool shard_optimizer; // each rank keeps and updates its part of the arrays below alone
};
extern const struct trainer_settings trainer_defaults; // DiT's (DESIGN section 4)

// The four arrays of a training run, each laid out as the model's parameters.
enum trainer_array {
    TRAINER_MODEL,
    TRAINER_EMA,
    TRAINER_EXP_AVG,
    TRAINER_EXP_AVG_SQ,
    TRAINER_ARRAYS,
};

struct trainer_stats {
    double loss, mse, vb; // means over the batch; vb in bits per dimension
    double grad_norm;     // before clipping
    double lr;
    bool skipped; // loss or gradient not finite: nothing was changed
};

struct trainer;
// A rank's trainer: it takes ranks_share(ranks, settings->batch) of each batch. ranks (NULL: alone)
// must outlive it; functions marked collective are called by all ranks, in the same order. NULL
// with an error. All arrays are zero until set.
struct trainer *trainer_new(struct device *device, const struct dit_config *config,
                            const struct trainer_settings *settings, struct ranks *ranks);
void trainer_free(struct trainer *trainer); // NULL is fine
struct dit *trainer_model(struct trainer *trainer);
// Bytes of device memory that a trainer of these would take, but for a few.
size_t trainer_memory_needed(struct device *device, const struct dit_config *config,
                             const struct trainer_settings *settings, const struct ranks *ranks);
size_t trainer_memory(const struct trainer *trainer); // bytes of device memory
// Sets or gets one parameter of an array; values (param->count) in host memory. Getting is
// collective where the optimizer is sharded; only rank 0 has the values then. -1 with the device's
// error if what was got can't be trusted.
void trainer_set(struct trainer *trainer, enum trainer_array array, const struct param *param,
                 const float *values);
int trainer_get(struct trainer *trainer, enum trainer_array array, const struct param *param,
                float *values);
// Sets the model's weights from host memory, weights[layout->size], and the EMA to the same: those
// of rank 0 on all. Collective.
void trainer_set_weights(struct trainer *trainer, const float *weights);
// Makes the weights that the products take from TRAINER_MODEL, after trainer_set. Collective.
void trainer_weights_changed(struct trainer *trainer);

// Updates done so far; Adam corrects its bias by it. Skipped steps don't count.
uint64_t trainer_updates(const struct trainer *trainer);
void trainer_set_updates(struct trainer *trainer, uint64_t updates);

// A step takes the records that were sent last: the rank's share of the batch, mean (count,C,S,S),
// std the same or NULL, labels (count; -1: the null class), all in host memory, which is the
// caller's again at once. Sending goes beside the step that is under way. -1 with an error: a label
// K or over.
int trainer_send(struct trainer *trainer, const float *mean, const float *std,
                 const int64_t *labels);
// Time steps, noise and dropout are drawn by (seed, step, place in the batch). A GPU works on after
// trainer_begin has returned; trainer_finish waits for it. Collective. -1 with the device's error.
void trainer_begin(struct trainer *trainer, uint64_t step);
int trainer_finish(struct trainer *trainer, struct trainer_stats *stats);

// The same in parts. Inputs of the micro-batch are placed first; then trainer_accumulate; after all
// micro-batches trainer_update.
struct trainer_inputs {
    float *x0, *noise; // (micro_batch,C,S,S), device memory
};
struct trainer_inputs trainer_inputs(struct trainer *trainer);
// The time steps and classes (K: none) of the micro-batch, B of each in host memory.
void trainer_set_conditions(struct trainer *trainer, const int64_t *t, const int32_t *labels,
                            size_t B);
// Adds the gradients of B samples' losses / total; mse and vb (B), per sample, host memory.
void trainer_accumulate(struct trainer *trainer, size_t B, size_t total, float *mse, float *vb);
// Clips, updates and clears the gradients. Returns their norm; if that is not finite, nothing else
// changes.
double trainer_update(struct trainer *trainer, double lr);

#endif
