// Drawing latents from a trained model. SPDX-License-Identifier: MIT
#ifndef DIT_SAMPLER_H
#define DIT_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/model/dit.h"
#include "lib/model/flow.h"

enum sampler_method {
    SAMPLER_USUAL, // ddpm; of flow euler
    SAMPLER_DDPM,
    SAMPLER_DDIM,
    SAMPLER_DPMPP,
    SAMPLER_DPMPP_2M,
    SAMPLER_SDE_DPMPP_2M,
    SAMPLER_UNIPC,
    SAMPLER_EULER, // from here on of flow
    SAMPLER_HEUN,
    SAMPLER_SDE_EULER,
    SAMPLER_SDE_HEUN,
};

struct sampler_settings {
    struct objective objective; // complete, or 0 for diffusion
    enum sampler_method method;
    const char *steps;       // of ddpm and ddim as diffusion_init reads them, else a number; NULL:
                             // 250, but 20 of the other methods of diffusion
    double eta;              // ddim's noise: 0 (none) to 1
    bool karras;             // the time steps of the solvers of diffusion, else evenly spread
    struct flow_solver flow; // of the SDE its form and last step; time_shift

    double cfg_scale;         // guidance; 1 for none, below 0 for the default
    size_t cfg_channels;      // only the first ones are guided; 0: sampler_guided_channels
    double cfg_low, cfg_high; // the noise times at which to guide; both 0: all
    double cfg_rescale;       // guide's `rescale`
    // The sizes of a second model, away from which to guide (Karras et al., "Guiding a Diffusion
    // Model with a Bad Version of Itself", NeurIPS 2024), else away from the null class; NULL:
    // none.
    const struct dit_config *guide;
    uint64_t seed;
};

// The default of cfg_scale, but 1 for a model without a null class. Without classes guidance would
// change nothing, and is left out.
#define SAMPLER_CFG_SCALE 4

// How many of a latent's channels to guide unless told otherwise: 3 of the 4 of Stable Diffusion's,
// as published, but all for models of REPA's kind, and of other latents.
size_t sampler_guided_channels(size_t channels, const struct objective *objective);

struct sampler;
// Draws up to `batch` samples at once with a model of its own, whose weights are `mapped` (as
// dit_new takes them) or set by dit_set_param(sampler_model(sampler), ...). NULL with an error,
// also for guidance of a model without a null class.
struct sampler *sampler_new(struct device *device, const struct dit_config *config, size_t batch,
                            const float *const *mapped, const struct sampler_settings *settings);
void sampler_free(struct sampler *sampler); // NULL is fine
// Draws from now on in other steps and with guidance of another scale, both as in the settings. A
// sampler that was made without guidance has no memory for it. -1 with an error, which leaves the
// sampler unusable.
int sampler_change(struct sampler *sampler, const char *steps, double cfg_scale);
struct dit *sampler_model(struct sampler *sampler);
struct dit *sampler_guide(struct sampler *sampler);   // the second model, or NULL
size_t sampler_rows(const struct sampler *sampler);   // the model's batch: guided by it 2 `batch`
size_t sampler_memory(const struct sampler *sampler); // bytes on the device, the models' included
size_t sampler_evaluations(const struct sampler *sampler); // of the model, for each sample

// Draws samples first .. first + B - 1 of the classes labels[B] (K: the null class) into latents
// (B,C,S,S), host memory. A sample depends only on the seed, its number and its class. After each
// evaluation done(user) is called, unless it is NULL. -1 with an error, also if a value is not
// finite.
int sampler_run(struct sampler *sampler, uint64_t first, const int32_t *labels, size_t B,
                float *latents, void (*done)(void *user), void *user);

// The same stage by stage, for tests that set the state and the noise (B,C,S,S) in device memory.
const struct sampler_stages *sampler_get_stages(const struct sampler *sampler);
void sampler_start(struct sampler *sampler, const int32_t *labels, size_t B);
float *sampler_state(struct sampler *sampler);
float *sampler_noise(struct sampler *sampler);
void sampler_advance(struct sampler *sampler, const struct sampler_stage *stage);

#endif
