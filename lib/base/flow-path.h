// The paths of flow matching from noise to data, for host and CUDA code alike.
// SPDX-License-Identifier: MIT
// Ma et al., "SiT: Exploring Flow and Diffusion-based Generative Models with Scalable Interpolant
// Transformers" (ECCV 2024).
#ifndef DIT_FLOW_PATH_H
#define DIT_FLOW_PATH_H

#include <math.h>

#ifdef __CUDACC__
#define FLOW_FN static inline __host__ __device__
#else
#define FLOW_FN static inline
#endif

enum flow_path { FLOW_PATH_UNSAID, FLOW_LINEAR, FLOW_GVP, FLOW_VP };
// What the model predicts.
enum flow_prediction { FLOW_PREDICTION_UNSAID, FLOW_VELOCITY, FLOW_NOISE, FLOW_SCORE };

#define FLOW_VP_SLOPE 19.9 // the noise's rate rises linearly from 0.1 at data to 20 at noise
#define FLOW_VP_FIRST 0.1

// A path at a time t: x_t = a data + s noise, t = 0 is noise and t = 1 is data. da and ds are
// derivatives by t. A path may end in a pole, at t = 0 (da / a) or at t = 1 (ds of vp).
struct flow_point {
    double a, s, da, ds;
};

FLOW_FN struct flow_point flow_path_at(enum flow_path path, double t)
{
    const double half_pi = 1.57079632679489662, u = 1 - t;
    struct flow_point p;
    if (path == FLOW_GVP) {
        p.a = sin(half_pi * t);
        p.s = cos(half_pi * t);
        p.da = half_pi * p.s;
        p.ds = -half_pi * p.a;
    } else if (path == FLOW_VP) {
        const double rate = u * FLOW_VP_SLOPE / 2 + FLOW_VP_FIRST / 2;
        p.a = exp(-u * u * FLOW_VP_SLOPE / 4 - u * FLOW_VP_FIRST / 2);
        p.s = sqrt(1 - p.a * p.a);
        p.da = p.a * rate;
        p.ds = -p.a * p.a * rate / p.s;
    } else {
        p.a = t;
        p.s = u;
        p.da = 1;
        p.ds = -1;
    }
    return p;
}

// V, the factor of the score in the velocity: v = (da / a) x + V score.
FLOW_FN double flow_score_factor(struct flow_point p)
{
    return p.da / p.a * p.s * p.s - p.s * p.ds;
}

#endif
