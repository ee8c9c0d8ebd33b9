// A sampler as a list of stages that are made before the first. SPDX-License-Identifier: MIT
//
// All samplers are linear in their states, the model's output and the noise. What a sampler does in
// a stage is thus a few coefficients, which are made in double on the host, where all conversions
// between predicted noise, data, velocity and score go into them.
#ifndef DIT_STAGES_H
#define DIT_STAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

struct sampler_stage {
    bool evaluate;     // the model, at state 0; else the stage only adds noise
    double t;          // of the evaluation, as the model sees it
    double noise_time; // the same as a share of the way from data, 0, to noise, 1
    uint32_t noise;    // the number of the stage's noise among the random numbers
    struct sampler_step step;
};

// The states are arrays of samples; state 0 is what is drawn, and begins
// as noise; the others begin as 0.
struct sampler_stages {
    size_t n, states;
    struct sampler_stage *all; // (n)
};

// A linear combination of the states and the model's output.
struct blend {
    double state[SAMPLER_STATES], out;
};
struct blend blend_state(size_t k);
struct blend blend_sum(double a, struct blend x, double b, struct blend y); // a x + b y

// n stages that do nothing. -1 with an error.
int stages_init(struct sampler_stages *stages, size_t n, size_t states);
void stages_free(struct sampler_stages *stages);
// What state k becomes in the stage.
void stage_set(struct sampler_stage *stage, size_t k, struct blend value);
bool stage_has_noise(const struct sampler_stage *stage);

#endif
