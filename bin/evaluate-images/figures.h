// The figures of an evaluation: which are asked for, and their values. SPDX-License-Identifier: MIT
#ifndef DIT_FIGURES_H
#define DIT_FIGURES_H

#include "bin/evaluate-images/image-set.h"

enum figure {
    FIGURE_FID = 1,
    FIGURE_SFID = 2,
    FIGURE_SCORE = 4,
    FIGURE_PRECISION = 8,
    FIGURE_RECALL = 16,
    FIGURE_KID = 32,
    FIGURE_ALL = 63,
    FIGURE_OF_FEATURES = FIGURE_PRECISION | FIGURE_RECALL | FIGURE_KID,
};

struct figures {
    unsigned wanted;   // of enum figure
    bool half;         // distances of precision and recall as ADM rounds them
    uint64_t seed;     // of KID's subsets
    unsigned possible; // those wanted for which the sets have what is needed
    double fid, sfid, score, precision, recall, kid, kid_deviation;
    size_t kid_size;    // images of a subset
    size_t kid_subsets; // 1 if it is both whole sets: there is no kid_deviation then
};

// Parses a list of names, such as "fid,kid". -1 with an error (STATUS_USAGE).
int figures_parse(const char *list, unsigned *wanted);
const char *figure_name(enum figure figure);
// Sets `possible`. `reference` is NULL if there is none.
void figures_choose(struct figures *figures, const struct image_set *samples,
                    const struct image_set *reference);
// Why a wanted figure is not possible with these sets, as a clause in why[size].
void figure_explain(enum figure figure, const struct image_set *samples,
                    const struct image_set *reference, char *why, size_t size);
// Computes the figures that are possible. -1 with an error.
int figures_compute(struct figures *figures, struct device *host, struct image_set *samples,
                    struct image_set *reference);

#endif
