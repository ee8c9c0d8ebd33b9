// Training a DiT: the state of a run and the step that changes it. SPDX-License-Identifier: MIT
#ifndef DIT_TRAINER_H
#define DIT_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/model/average.h"
#include "lib/model/dit.h"
#include "lib/model/loss-batch.h"
#include "lib/model/outliers.h"
#include "lib/model/ranks.h"

#define TRAINER_AVERAGES_MAX  3      // beside the first
#define TRAINER_STEPS_DEFAULT 400000 // the steps of the published models

// How the learning rate goes on after its warm-up.
enum lr_schedule {
    LR_CONSTANT,
    LR_COSINE, // along half a cosine to lr_final at the last step
    LR_WSD,    // constant, and over the last fifth of the steps down as 1 - sqrt
};

struct trainer_settings {
    uint64_t seed;
    size_t batch;       // samples of a step, over all ranks
    size_t micro_batch; // samples that go through the model at once, on each rank
    struct loss_settings loss;
    enum dit_mode mode; // DIT_TRAIN, or a mode that saves memory; on a CPU the bits are the same
    double lr;
    uint64_t lr_warmup_steps; // the learning rate rises linearly over these
    enum lr_schedule lr_schedule;
    double lr_final;    // share of lr
    uint64_t last_step; // at which the schedule ends; of LR_CONSTANT any
    double beta1, beta2, eps, weight_decay;
    double clip;   // gradients with a larger norm are scaled down to it; 0: no clipping
    double skip_z; // steps that outlier_is with this z are not applied; 0: all are
    double ema_decay;
    struct average more[TRAINER_AVERAGES_MAX]; // further averages, which nothing samples from
    size_t n_more;                             // of them
    bool ema_warmup;      // after n updates the decays of exponential averages are at most
                          // (1 + n) / (10 + n)
    double class_dropout; // share of labels replaced by the null class
    bool shard_optimizer; // each rank holds and updates its part of the arrays below alone
};
extern const struct trainer_settings trainer_defaults; // those of DiT's published training

// The learning rate of a step, from 0.
double trainer_learning_rate(const struct trainer_settings *settings, uint64_t step);

// The arrays of a training run, each laid out as the model's parameters.
enum trainer_array {
    TRAINER_MODEL,
    TRAINER_EMA,
    TRAINER_EXP_AVG,
    TRAINER_EXP_AVG_SQ,
    TRAINER_ARRAYS,
};
// The further averages of a run follow.
#define TRAINER_ARRAYS_MAX (TRAINER_ARRAYS + TRAINER_AVERAGES_MAX)

struct trainer_stats {
    double loss, mse, vb; // means over the batch; vb in bits per dimension, 0 without a variance
    double grad_norm;     // before clipping
    double lr;
    bool skipped; // nothing was changed: loss or gradient is not finite,
    bool outlier; // or larger than skip_z allows
};

struct trainer;
// A rank's trainer; of each batch it takes ranks_share(ranks, settings->batch). ranks (NULL: alone)
// must outlive it. Functions marked collective must be called by all ranks, in the same order.
// All arrays are zero until set. NULL with an error.
struct trainer *trainer_new(struct device *device, const struct dit_config *config,
                            const struct trainer_settings *settings, struct ranks *ranks);
void trainer_free(struct trainer *trainer); // NULL is fine
struct dit *trainer_model(struct trainer *trainer);
const struct trainer_settings *trainer_get_settings(const struct trainer *trainer);
size_t trainer_arrays(const struct trainer *trainer); // TRAINER_ARRAYS and the further averages
// Bytes of device memory, the model's included: of a trainer, and of one to be made.
size_t trainer_memory(const struct trainer *trainer);
size_t trainer_memory_needed(struct device *device, const struct dit_config *config,
                             const struct trainer_settings *settings, struct ranks *ranks);
// Sets or gets one parameter of an array; values (param->count) in host memory. With
// shard_optimizer getting is collective, and only rank 0 receives the values. -1 with the device's
// error; the values are then invalid.
void trainer_set(struct trainer *trainer, enum trainer_array array, const struct param *param,
                 const float *values);
int trainer_get(struct trainer *trainer, enum trainer_array array, const struct param *param,
                float *values);
// Sets the model's weights and the EMA to rank 0's weights[layout->size], host memory, on all
// ranks. Collective.
void trainer_set_weights(struct trainer *trainer, const float *weights);
// To be called after trainer_set of TRAINER_MODEL: converts the master weights to the ones that the
// model computes with. Collective.
void trainer_weights_changed(struct trainer *trainer);

// Updates done so far, without skipped steps; Adam's bias correction depends on it.
uint64_t trainer_updates(const struct trainer *trainer);
void trainer_set_updates(struct trainer *trainer, uint64_t updates);

// The share of the weights that the averaging began with in the averaged weights: the product of
// all decays so far.
double trainer_ema_start(const struct trainer *trainer);
void trainer_set_ema_start(struct trainer *trainer, double share);

// The steps that skip_z compares with: part of the state of a run that has it.
struct outlier_window *trainer_window(struct trainer *trainer);

// Sends the rank's share of the next batch to the device, also while a step runs: mean
// (count,C,S,S), std the same or NULL, labels (count; -1: the null class), all in host memory, and
// may be reused as soon as this returns. -1 with an error if a label is K or greater.
int trainer_send(struct trainer *trainer, const float *mean, const float *std,
                 const int64_t *labels);
// A step on the latents that were sent last. Noise, time steps and label dropout are drawn by
// (seed, step, place in the batch). A GPU may still be at work when trainer_begin returns;
// trainer_finish waits for it. Collective. -1 with the device's error.
void trainer_begin(struct trainer *trainer, uint64_t step);
int trainer_finish(struct trainer *trainer, struct trainer_stats *stats);

// The mean loss (mse + vb) of any `model` on n latents that are not trained on, in batches of
// batch->rows, with the same noise each time. mean and std (NULL: none) (n,C,S,S), labels (n; K:
// the null class), host memory. -1 with the device's error.
int trainer_evaluate(struct loss_batch *batch, struct dit *model, const float *mean,
                     const float *std, const int32_t *labels, size_t n, double *loss);

// A training step, part by part, for tests: place the inputs of a micro-batch and call
// trainer_accumulate; after all micro-batches trainer_update.
struct trainer_inputs {
    float *x0, *noise; // (micro_batch,C,S,S), device memory
};
struct trainer_inputs trainer_inputs(struct trainer *trainer);
// Times t[B], of diffusion a time step, and classes labels[B] (K: the null class), host memory.
void trainer_set_conditions(struct trainer *trainer, const double *t, const int32_t *labels,
                            size_t B);
// Adds the gradients of B samples' losses / total; mse and vb (B), per sample, host memory.
void trainer_accumulate(struct trainer *trainer, size_t B, size_t total, float *mse, float *vb);
// Clips the gradients, updates the weights, clears the gradients. Returns the norm before clipping;
// if that is not finite, the weights and the optimizer's state stay as they are.
double trainer_update(struct trainer *trainer, double lr);

#endif
