// Precision and recall by nearest neighbours (Kynkaanniemi et al., "Improved precision and recall
// metric for assessing generative models", 2019), as ADM's evaluator computes them.
// SPDX-License-Identifier: MIT
#ifndef DIT_NEIGHBOURS_H
#define DIT_NEIGHBOURS_H

#include <stdbool.h>

#include "kernels/device.h"

#define NEIGHBOURS 3 // a point's radius is its distance to the third nearest of its set

struct feature_set {
    const float *features; // (n,D) in host memory
    size_t n, D;
};

// Precision: the share of samples that lie within the radius of a reference point; recall: the
// share of reference points that lie within the radius of a sample. Squared distances are
// max(|u|^2 - 2 u.v + |v|^2, 0) in float32, or, with `half`, every term and sum is rounded to half
// precision, as ADM's evaluator does. `host` is a device whose memory is the host's. The distances
// are computed in tiles of 16 MB. -1 with an error if a set has no more than NEIGHBOURS points, or
// if there is no memory.
int precision_recall(struct device *host, const struct feature_set *samples,
                     const struct feature_set *reference, bool half, double *precision,
                     double *recall);

#endif
