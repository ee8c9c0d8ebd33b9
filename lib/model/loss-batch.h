// The loss of a batch of latents, as training and validation compute it.
// SPDX-License-Identifier: MIT
#ifndef DIT_LOSS_BATCH_H
#define DIT_LOSS_BATCH_H

#include "kernels/ops.h"
#include "lib/model/arena.h"
#include "lib/model/dit.h"
#include "lib/model/objective.h"

// What is minimized. Zeros are the usual: diffusion, no weights, uniform times.
struct loss_settings {
    struct objective objective; // complete, or 0 for diffusion
    double min_snr; // diffusion: bounds the weight of low noise (diffusion.h); 0: no weights
    enum flow_weight weight; // flow, but for the velocity
    bool logit_normal;       // flow: draws t by the logistic function of N(time_mean, time_std)
    double time_mean, time_std;
};

// All arrays are in device memory. `rows` is the largest B of the functions below.
struct loss_batch {
    struct device *device;
    size_t rows;
    size_t n;                      // elements of a latent, C S S
    float *x0, *noise, *xt;        // (rows,C,S,S)
    size_t stride;                 // of a row of out, dit_out_channels S S
    float *out;                    // (rows,stride)
    float *t, *mse, *vb;           // (rows)
    int32_t *labels;               // (rows), from 0 to K (the null class): set by the caller
    struct diffusion_terms *terms; // (rows)
    struct diffusion_terms *table; // (DIFFUSION_STEPS), for diffusion
    bool flow, bound;              // flow matching; the variance is learned, so that vb is not 0
    struct flow_training law;      // of flow
};

void loss_batch_place(struct loss_batch *batch, struct arena *arena, struct device *device,
                      const struct dit_config *config, size_t rows);
// Once the arrays have memory. -1 with an error.
int loss_batch_prepare(struct loss_batch *batch, const struct dit_config *config,
                       const struct loss_settings *settings);
// Draws latents (mean + std noise; std NULL: the mean itself), time steps and noise of the samples
// first .. first + B - 1 of a step. mean and std (B,C,S,S) are in device memory, and may be the
// batch's own x0 and xt.
void loss_batch_draw(struct loss_batch *batch, const float *mean, const float *std, uint64_t seed,
                     uint64_t step, uint64_t first, size_t B);
// Sets the times t[B], host memory, in place of drawn ones: of diffusion a training step.
void loss_batch_set_times(struct loss_batch *batch, const double *t, size_t B);
// Fills mse and vb (bits per dimension; 0 without a variance), one of each per sample. dout
// (B,stride), unless NULL, becomes the gradient of `scale` times the sum of all losses.
void loss_batch_forward(struct loss_batch *batch, struct dit *model, float *dout, float scale,
                        size_t B);

#endif
