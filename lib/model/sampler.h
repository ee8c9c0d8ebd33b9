// Drawing latents from a trained model. SPDX-License-Identifier: MIT
#ifndef DIT_SAMPLER_H
#define DIT_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/model/diffusion.h"
#include "lib/model/dit.h"

struct sampler_settings {
    const char *respacing; // which steps to take, as diffusion_init reads it
    bool ddim;             // DDIM, else DDPM
    double eta;            // DDIM's noise: 0 (none) to 1
    double cfg_scale;      // classifier-free guidance; 1 for none, below 0 for the default
    size_t cfg_channels;   // only the first ones are guided
    uint64_t seed;
};

// The default of cfg_scale, but 1 for a model without a null class. Without classes guidance would
// change nothing, and is left out.
#define SAMPLER_CFG_SCALE 4

// How many of a latent's channels to guide unless told otherwise: 3 of the 4 of Stable Diffusion's,
// as published, else all.
size_t sampler_guided_channels(size_t channels);

struct sampler;
// Draws up to `batch` samples at once with a model of its own, whose weights are `mapped` (as
// dit_new takes them) or set by dit_set_param(sampler_model(sampler), ...). NULL with an error,
// also for guidance of a model without a null class.
struct sampler *sampler_new(struct device *device, const struct dit_config *config, size_t batch,
                            const float *const *mapped, const struct sampler_settings *settings);
void sampler_free(struct sampler *sampler); // NULL is fine
struct dit *sampler_model(struct sampler *sampler);
size_t sampler_rows(const struct sampler *sampler);   // the model's batch: with guidance 2 `batch`
size_t sampler_memory(const struct sampler *sampler); // bytes on the device, the model's included
size_t sampler_steps(const struct sampler *sampler);

// Draws samples first .. first + B - 1 of the classes labels[B] (K: the null class) into latents
// (B,C,S,S), host memory. A sample depends only on the seed, its number and its class. After each
// step done(user) is called, unless it is NULL. -1 with an error, also if a value is not finite.
int sampler_run(struct sampler *sampler, uint64_t first, const int32_t *labels, size_t B,
                float *latents, void (*done)(void *user), void *user);

// The same step by step, for tests that set the state and the noise (B,C,S,S) in device memory.
void sampler_start(struct sampler *sampler, const int32_t *labels, size_t B);
float *sampler_state(struct sampler *sampler);
float *sampler_noise(struct sampler *sampler);
void sampler_advance(struct sampler *sampler, size_t i); // from kept step i to i - 1

#endif
