// Multistep solvers of the diffusion ODE and SDE, for few evaluations of a DiT.
// SPDX-License-Identifier: MIT
// Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models"
// (2022); Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of
// Diffusion Models" (NeurIPS 2023); Karras et al., "Elucidating the Design Space of Diffusion-Based
// Generative Models" (NeurIPS 2022), for the schedule.
#ifndef DIT_SOLVER_H
#define DIT_SOLVER_H

#include "lib/model/stages.h"

enum solver { SOLVER_DPMPP, SOLVER_DPMPP_2M, SOLVER_SDE_DPMPP_2M, SOLVER_UNIPC };

// The stages of `steps` evaluations, from 1 to 999, at time steps that are evenly spread or follow
// Karras's schedule. The noise of step i has number i. -1 with an error.
int solver_stages(struct sampler_stages *stages, enum solver solver, size_t steps, bool karras);

#endif
