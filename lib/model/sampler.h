// Drawing latents from a trained model. SPDX-License-Identifier: MIT
#ifndef DIT_SAMPLER_H
#define DIT_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/model/diffusion.h"
#include "lib/model/dit.h"

struct sampler_settings {
    const char *respacing; // for diffusion_init
    bool ddim;             // else DDPM
    double eta;            // of DDIM
    double cfg_scale;      // classifier-free guidance; 1 is none
    size_t cfg_channels;   // guided channels, from the first; the published code guides 3
    uint64_t seed;
};

struct sampler;
// Draws up to `batch` samples at once with a model of its own, whose weights are `held` (as dit_new
// takes them) or set by dit_set_param(sampler_model(sampler), ...). NULL with an error.
struct sampler *sampler_new(struct device *device, const struct dit_config *config, size_t batch,
                            const float *const *held, const struct sampler_settings *settings);
void sampler_free(struct sampler *sampler); // NULL is fine
struct dit *sampler_model(struct sampler *sampler);
size_t sampler_steps(const struct sampler *sampler);

// Draws samples first .. first + B - 1, of the classes labels[B] (the model's null class for none),
// into latents (B,C,S,S), host memory. A sample depends on the seed, its number and its class
// alone. done(user) is called after each step, NULL for none. -1 with an error (also for a value
// that is not finite).
int sampler_run(struct sampler *sampler, uint64_t first, const int32_t *labels, size_t B,
                float *latents, void (*done)(void *user), void *user);

// The same in parts, for tests with given noise: state and noise (B,C,S,S) are in device memory.
void sampler_start(struct sampler *sampler, const int32_t *labels, size_t B);
float *sampler_state(struct sampler *sampler);
float *sampler_noise(struct sampler *sampler);
void sampler_advance(struct sampler *sampler, size_t i); // from (kept) step i to the one before

#endif
