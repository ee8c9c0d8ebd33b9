// Gaussian diffusion as DiT uses it: the noise schedule, its respacing, and the coefficients of the
// loss, DDPM and DDIM. SPDX-License-Identifier: MIT
// Ho et al., "Denoising Diffusion Probabilistic Models" (2020); Nichol and Dhariwal, "Improved
// Denoising Diffusion Probabilistic Models" (2021); Song et al., "Denoising Diffusion Implicit
// Models" (2021).
#ifndef DIT_DIFFUSION_H
#define DIT_DIFFUSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/model/stages.h"

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
// Fills terms[DIFFUSION_STEPS], device memory, with those of all training steps. With min_snr > 0
// the squared error is weighted by min(snr, min_snr) / snr, where snr is the ratio of signal to
// noise (Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023). -1
// with an error.
int diffusion_upload_terms(struct device *device, struct diffusion_terms *terms, double min_snr);

// The stages of the kept steps, from the last one down to 0: DDIM with its noise eta, 0 (none) to
// 1, else DDPM, which needs a model that predicts the variance. A stage's noise has the number of
// its training step. -1 with an error.
int diffusion_stages(struct sampler_stages *stages, const char *respacing, bool ddim, double eta);

#endif
