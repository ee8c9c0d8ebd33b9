// The Inception Score, gathered as features come in. SPDX-License-Identifier: MIT
#ifndef DIT_INCEPTION_SCORE_H
#define DIT_INCEPTION_SCORE_H

#include "kernels/device.h"

#define SCORE_SPLIT 5000 // images of a split

// Salimans et al., "Improved techniques for training GANs", 2016, as ADM's evaluator has it:
// p = softmax(features W^T), without the network's bias, and in each run of `split` images
// exp(mean of sum p (ln p - ln mean p)); the score is the mean over the splits.
struct inception_score {
    struct device *host; // a device whose memory is the host's
    size_t D, classes, split;
    double *w; // (classes,D)
    // Private: the features and class scores of a block, and the sums of this split and of all.
    double *features, *logits;
    double *sum_p, sum_plogp; // (classes)
    size_t in_split, splits;
    double sum_scores;
};

// w (classes,D) is copied. -1 with an error if there is no memory.
int inception_score_init(struct inception_score *s, struct device *host, const float *w,
                         size_t classes, size_t D, size_t split);
void inception_score_free(struct inception_score *s);
void inception_score_add(struct inception_score *s, const float *features, size_t n); // (n,D)
double inception_score_finish(struct inception_score *s); // after at least one image

#endif
