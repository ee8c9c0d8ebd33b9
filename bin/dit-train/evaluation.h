// FID of a run's averaged weights while it trains: how near the images drawn by them come to a
// reference. SPDX-License-Identifier: MIT
//
// Image i has the class i mod K and is drawn without guidance. Each rank draws its share and
// computes the features; rank 0 adds these up in the order of the images, so that the figure does
// not depend on the number of ranks, and is that of evaluate-images of what dit-sample --cfg-scale
// 1 draws.
#ifndef DIT_EVALUATION_H
#define DIT_EVALUATION_H

#include "bin/dit-train/preview.h"

struct evaluation_settings {
    const char *reference; // archive with mu and sigma
    const char *inception; // weights of the network
    size_t count;          // images, over all ranks
    size_t steps;          // of sampling
    int threads;
};

struct evaluation;
// Loads network and reference, and tries all that a later evaluation needs, so that it fails here
// if it must. `preview`, which draws the images, and ranks (NULL: alone) must outlive the
// evaluation. NULL with an error.
struct evaluation *evaluation_new(struct device *device, struct preview *preview,
                                  struct ranks *ranks, const struct evaluation_settings *settings);
void evaluation_free(struct evaluation *evaluation);           // NULL is fine
size_t evaluation_memory(const struct evaluation *evaluation); // bytes on the device; 0 for NULL
// Draws the images by the weights that preview_load left. *fid is NAN on ranks over 0, and if a
// signal asks to stop meanwhile. Collective. -1 with an error, of any rank.
int evaluation_run(struct evaluation *evaluation, double *fid);

#endif
