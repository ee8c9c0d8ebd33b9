// KID, the kernel Inception distance. SPDX-License-Identifier: MIT
#ifndef DIT_KERNEL_DISTANCE_H
#define DIT_KERNEL_DISTANCE_H

#include "lib/evaluation/neighbours.h"

#define KID_SUBSETS 100
#define KID_SIZE    1000 // images of each set in a subset, or all of the smaller set

// The squared maximum mean discrepancy without bias, with the kernel (x.y / D + 1)^3: its mean and
// standard deviation over `subsets` pairs of subsets of `size` vectors each, drawn without
// replacement by `seed` (Binkowski et al., "Demystifying MMD GANs", 2018). With a single one it is
// that of the whole sets. 2 <= size <= the vectors of each set. -1 with an error if there is no
// memory.
int kernel_distance(struct device *host, const struct feature_set *x, const struct feature_set *y,
                    size_t subsets, size_t size, uint64_t seed, double *mean, double *deviation);

#endif
