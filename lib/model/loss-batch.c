// Draws noise and time steps for a batch of latents and computes the model's loss on it.
// SPDX-License-Identifier: MIT
#include "lib/model/loss-batch.h"

#include "lib/base/rng.h"
#include "lib/model/diffusion.h"
#include "lib/model/flow.h"

void loss_batch_place(struct loss_batch *b, struct arena *arena, struct device *device,
                      const struct dit_config *config, size_t rows)
{
    size_t n = config->channels * config->input_size * config->input_size;
    *b = (struct loss_batch){.device = device, .rows = rows, .n = n};
    b->stride = dit_out_channels(config) * config->input_size * config->input_size;
    b->x0 = arena_take_float(arena, rows * n);
    b->noise = arena_take_float(arena, rows * n);
    b->xt = arena_take_float(arena, rows * n);
    b->out = arena_take_float(arena, rows * b->stride);
    b->t = arena_take_float(arena, rows);
    b->mse = arena_take_float(arena, rows);
    b->vb = arena_take_float(arena, rows);
    b->labels = arena_take(arena, rows * sizeof *b->labels);
    b->terms = arena_take(arena, rows * sizeof *b->terms);
    b->table = arena_take(arena, DIFFUSION_STEPS * sizeof *b->table);
}

int loss_batch_prepare(struct loss_batch *b, const struct dit_config *config,
                       const struct loss_settings *settings)
{
    b->flow = settings->objective.kind == OBJECTIVE_FLOW;
    b->bound = !b->flow && config->learn_sigma;
    device_zero(b->device, b->vb, b->rows * sizeof *b->vb);
    if (!b->flow)
        return diffusion_upload_terms(b->device, b->table, settings->min_snr);
    b->law = (struct flow_training){.path = settings->objective.path,
                                    .prediction = settings->objective.prediction,
                                    .reversed = settings->objective.time == FLOW_TIME_NOISE,
                                    .weight = settings->weight,
                                    .logit_normal = settings->logit_normal,
                                    .mean = settings->time_mean,
                                    .std = settings->time_std};
    flow_training_bounds(&b->law);
    return 0;
}

void loss_batch_draw(struct loss_batch *b, const float *mean, const float *std, uint64_t seed,
                     uint64_t step, uint64_t first, size_t B)
{
    struct device *d = b->device;
    if (std) {
        op_fill_normal(d, b->noise, seed, RNG_LATENT, (uint32_t)step, first, B, b->n);
        op_latent_draw(d, b->x0, mean, std, b->noise, B * b->n);
    } else if (mean != b->x0) {
        device_copy(d, b->x0, mean, B * b->n * sizeof *mean);
    }
    op_fill_normal(d, b->noise, seed, RNG_NOISE, (uint32_t)step, first, B, b->n);
    if (b->flow)
        op_draw_flow_times(d, b->t, b->terms, &b->law, seed, RNG_TIME, (uint32_t)step, first, B);
    else
        op_draw_times(d, b->t, b->terms, b->table, DIFFUSION_STEPS, seed, RNG_TIME, (uint32_t)step,
                      first, B);
}

void loss_batch_set_times(struct loss_batch *b, const double *t, size_t B)
{
    struct device *d = b->device;
    for (size_t i = 0; i < B; i++) {
        float time = b->flow ? flow_model_time(&b->law, t[i]) : (float)t[i];
        device_upload(d, b->t + i, &time, sizeof time);
        if (b->flow) {
            struct diffusion_terms terms = flow_terms(&b->law, t[i]);
            device_upload(d, b->terms + i, &terms, sizeof terms);
        } else {
            device_copy(d, b->terms + i, b->table + (size_t)t[i], sizeof *b->terms);
        }
    }
}

void loss_batch_forward(struct loss_batch *b, struct dit *model, float *dout, float scale, size_t B)
{
    struct device *d = b->device;
    op_diffuse(d, b->xt, b->x0, b->noise, b->terms, B, b->n);
    dit_forward(model, b->out, b->xt, b->t, b->labels, B);
    op_diffusion_loss(d, b->mse, b->bound ? b->vb : NULL, dout, b->out, b->x0, b->xt, b->noise,
                      b->terms, scale, b->stride, B, b->n);
}
