// Statistics of images' features in archives, as ADM's evaluator and evaluate-images keep them.
// SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_STATISTICS_H
#define DIT_IMAGE_STATISTICS_H

#include "formats/containers/arrays.h"

struct image_statistics {
    size_t D;
    double *mean;       // (D)
    double *covariance; // (D,D)
};

// Reads a mean and a covariance by their names, such as "mu" and "sigma". -1 with an error (65),
// also if they have other than D features, unless D is 0.
int image_statistics_read(struct image_statistics *statistics, const struct arrays *arrays,
                          const char *mean, const char *covariance, size_t D);
void image_statistics_free(struct image_statistics *statistics);

// What an archive tells of the images; 0 where it is silent.
struct image_origin {
    uint64_t count;       // that its statistics are of, by its `count`
    uint64_t stored;      // that it holds itself, in arr_0
    size_t height, width; // by its image_size, else of those in arr_0
};
// -1 with an error (65).
int image_origin_read(struct image_origin *origin, const struct arrays *arrays);

#endif
