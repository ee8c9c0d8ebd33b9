// The loss of flow matching at a time: its coefficients, and how times are drawn in training; for
// host and CUDA code alike. SPDX-License-Identifier: MIT
#ifndef DIT_FLOW_TERMS_H
#define DIT_FLOW_TERMS_H

#include "kernels/ops.h"
#include "lib/base/philox.h"

// The terms of a sample at time t. The model predicts the velocity, the noise or the score -
// noise / s.
FLOW_FN struct diffusion_terms flow_terms(const struct flow_training *flow, double t)
{
    const struct flow_point p = flow_path_at(flow->path, t);
    double weight = 1, out = 1, data = 0, eps = 1;
    if (flow->prediction == FLOW_VELOCITY) {
        data = p.da;
        eps = p.ds;
    } else {
        const double factor = flow->weight == FLOW_WEIGHT_NONE ? 1 : flow_score_factor(p);
        if (flow->weight == FLOW_WEIGHT_VELOCITY)
            weight = factor / p.s * (factor / p.s);
        else if (flow->weight == FLOW_WEIGHT_LIKELIHOOD)
            weight = factor / (p.s * p.s);
        if (flow->prediction == FLOW_SCORE) {
            out = p.s;
            eps = -1;
        }
    }
    if (flow->reversed)
        out = -out;
    const struct diffusion_terms terms = {
        (float)p.a, (float)p.s, (float)out, (float)data, (float)eps, (float)weight, 0, 0,
        0,          0,          0,          0,           0}; // no bound
    return terms;
}

// Time as the model sees it.
FLOW_FN float flow_model_time(const struct flow_training *flow, double t)
{
    return (float)(flow->reversed ? 1 - t : t);
}

// The time of a sample, from the words of its block 0: uniform, or normal and made a share by the
// logistic function.
FLOW_FN float flow_draw_time(const struct flow_training *flow, const uint32_t words[4])
{
    const double u = philox_uniform(words[0]);
    double t = flow->low + (flow->high - flow->low) * u;
    if (flow->logit_normal) {
        const double angle = 6.28318530717958648 * philox_uniform(words[1]);
        const double normal = sqrt(-2 * log(u)) * cos(angle);
        t = 1 / (1 + exp(-(flow->mean + flow->std * normal)));
        t = t < flow->low ? flow->low : t > flow->high ? flow->high : t;
    }
    return (float)t;
}

#endif
