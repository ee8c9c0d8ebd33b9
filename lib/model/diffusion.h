// Gaussian diffusion as DiT uses it: the noise schedule, its respacing, and the coefficients of the
// loss and the samplers. SPDX-License-Identifier: MIT
// Ho et al., "Denoising Diffusion Probabilistic Models" (2020); Nichol and Dhariwal, "Improved
// Denoising Diffusion Probabilistic Models" (2021); Song et al., "Denoising Diffusion Implicit
// Models" (2021).
#ifndef DIT_DIFFUSION_H
#define DIT_DIFFUSION_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

#define DIFFUSION_STEPS 1000 // of training; beta rises linearly from 1e-4 to 0.02

// The schedule over the steps that respacing keeps, with the published implementation's names.
struct diffusion {
    size_t steps;
    int64_t *timestep_map; // (steps): the training step, which the model sees
    double *betas, *alphas_cumprod, *alphas_cumprod_prev;
    double *sqrt_recip_alphas_cumprod, *sqrt_recipm1_alphas_cumprod;
    double *posterior_variance, *posterior_log_variance_clipped;
    double *posterior_mean_coef1, *posterior_mean_coef2; // of x_0, of x_t
};

// respacing: "N" evenly spread steps; "ddimN", N steps at an integer stride; "a,b,c", so many steps
// in each of equal sections; or "" for all. -1 with an error.
int diffusion_init(struct diffusion *diffusion, const char *respacing);
void diffusion_free(struct diffusion *diffusion);

// The coefficients of the loss of a sample at kept step i.
struct diffusion_terms diffusion_terms(const struct diffusion *diffusion, size_t i);
// Fills terms[DIFFUSION_STEPS], device memory, with those of all training steps. -1 with an error.
int diffusion_upload_terms(struct device *device, struct diffusion_terms *terms);
// The coefficients of the sampler's step from kept step i to i - 1.
struct sampler_step diffusion_ddpm_step(const struct diffusion *diffusion, size_t i);
struct sampler_step diffusion_ddim_step(const struct diffusion *diffusion, size_t i, double eta);

#endif
