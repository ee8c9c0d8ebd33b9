// Flow matching, as SiT does it: training along a path from noise to data, and the ODE and SDE that
// draw samples. SPDX-License-Identifier: MIT
// Ma et al., "SiT: Exploring Flow and Diffusion-based Generative Models with Scalable Interpolant
// Transformers" (ECCV 2024).
#ifndef DIT_FLOW_H
#define DIT_FLOW_H

#include "lib/model/objective.h"
#include "lib/model/stages.h"

// The bounds of t in training.
void flow_training_bounds(struct flow_training *flow);

// The coefficient w of the SDE's noise, dX = (v + w score) dt + sqrt(2 w) dW.
enum flow_form {
    FLOW_FORM_SIGMA, // s, the path's share of noise
    FLOW_FORM_LINEAR,
    FLOW_FORM_CONSTANT,
    FLOW_FORM_SBDM, // V, with which the SDE is that of diffusion
    FLOW_FORM_DECREASING,
    FLOW_FORM_INCREASING_DECREASING,
};
// The SDE's last step, which adds no noise: along the SDE's drift, the velocity, or to the data
// that the score predicts by Tweedie's formula.
enum flow_last { FLOW_LAST_MEAN, FLOW_LAST_EULER, FLOW_LAST_TWEEDIE };

struct flow_solver {
    size_t steps; // of the SDE the last one included
    bool heun;    // two evaluations a step, else Euler's method
    bool sde;
    enum flow_form form;
    enum flow_last last;
    double last_size;  // in t; 0: 0.04
    double time_shift; // spreads the points by t' = S t / (1 + (S - 1) t), t = 1 noise; 0: 1
};

// -1 with an error.
int flow_stages(struct sampler_stages *stages, const struct objective *objective,
                const struct flow_solver *solver);

#endif
