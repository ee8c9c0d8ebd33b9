// The Frechet distance of two normal distributions: FID, where they are fitted to features of
// images. SPDX-License-Identifier: MIT
#ifndef DIT_FRECHET_H
#define DIT_FRECHET_H

#include "kernels/device.h"

// *distance = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), from means (D) and covariances
// (D,D), of which any may lack full rank (Heusel et al., "GANs trained by a two time-scale update
// rule converge to a local Nash equilibrium", 2017). `host` is a device whose memory is the host's.
// -1 with an error if there is no memory, or if a number is not finite.
int frechet_distance(struct device *host, size_t D, const double *mean1, const double *covariance1,
                     const double *mean2, const double *covariance2, double *distance);

#endif
