// The diffusion loss of a batch of latents, as training and validation compute it.
// SPDX-License-Identifier: MIT
#ifndef DIT_LOSS_BATCH_H
#define DIT_LOSS_BATCH_H

#include "kernels/ops.h"
#include "lib/model/arena.h"
#include "lib/model/dit.h"

// All arrays are in device memory. `rows` is the largest B of the functions below.
struct loss_batch {
    struct device *device;
    size_t rows;
    size_t n;                      // elements of a latent, C S S
    float *x0, *noise, *xt;        // (rows,C,S,S)
    float *out;                    // (rows,2C,S,S)
    float *t, *mse, *vb;           // (rows)
    int32_t *labels;               // (rows), from 0 to K (the null class): set by the caller
    struct diffusion_terms *terms; // (rows)
    struct diffusion_terms *table; // (DIFFUSION_STEPS): set by diffusion_upload_terms
};

void loss_batch_place(struct loss_batch *batch, struct arena *arena, struct device *device,
                      const struct dit_config *config, size_t rows);
// Draws latents (mean + std noise; std NULL: the mean itself), time steps and noise of the samples
// first .. first + B - 1 of a step. mean and std (B,C,S,S) are in device memory, and may be the
// batch's own x0 and xt.
void loss_batch_draw(struct loss_batch *batch, const float *mean, const float *std, uint64_t seed,
                     uint64_t step, uint64_t first, size_t B);
// Fills mse and vb (bits per dimension), one of each per sample. dout (B,2C,S,S), unless NULL,
// becomes the gradient of `scale` times the sum of all losses.
void loss_batch_forward(struct loss_batch *batch, struct dit *model, float *dout, float scale,
                        size_t B);

#endif
