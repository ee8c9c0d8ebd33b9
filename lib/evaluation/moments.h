// The mean and covariance of vectors, gathered in one pass and merged from several.
// SPDX-License-Identifier: MIT
//
// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances", 1979: nothing is lost to cancellation, however many vectors there are.
#ifndef DIT_MOMENTS_H
#define DIT_MOMENTS_H

#include <stdint.h>

#include "kernels/device.h"

struct moments {
    struct device *host; // a device whose memory is the host's
    size_t D;
    uint64_t n;      // vectors in mean and scatter
    double *mean;    // (D)
    double *scatter; // (D,D): the sum of (x - mean) (x - mean)^T
    // Private: vectors that wait for a full block, so that no result depends on how they come in.
    double *pending; // (D,block + 1): their components, and a column for the means
    double *added;   // (D): the mean of what is being added
    size_t n_pending;
};

// -1 with an error if there is no memory: 2 D^2 doubles are the bulk.
int moments_init(struct moments *m, struct device *host, size_t D);
void moments_free(struct moments *m);
// Adds x (n,D).
void moments_add(struct moments *m, const float *x, size_t n);
// Adds what others have gathered from n vectors: their mean (D) and covariance (D,D), which divides
// by n - 1 (by 1 if n is 1).
void moments_merge(struct moments *m, uint64_t n, const double *mean, const double *covariance);
// Completes mean, and sets covariance (D,D) to scatter / (n - 1), or to 0 if n is 1; n >= 1.
void moments_finish(struct moments *m, double *covariance);

#endif
