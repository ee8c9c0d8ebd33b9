// What an evaluation keeps of a set of images. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_SET_H
#define DIT_IMAGE_SET_H

#include <stdbool.h>

#include "lib/base/io.h"
#include "lib/base/part.h"
#include "lib/evaluation/inception-score.h"
#include "lib/evaluation/moments.h"
#include "lib/evaluation/neighbours.h"
#include "lib/model/inception.h"

// How features are made, of both sets.
struct feature_source {
    struct device *host; // for the statistics
    // The device of the network; NULL until images come that need it.
    struct device *device;
    struct inception *net;
    const char *path; // of the weights, or NULL
    uint64_t hash;    // of the file
    float *fc;        // (INCEPTION_CLASSES,D), or NULL
    size_t batch;     // images at a time
};

struct image_set {
    const char *name; // the file, for messages
    size_t D;         // 0 until it is known
    struct moments pool, spatial;
    bool uncounted;                // the statistics came from a file that does not say of how many
    struct inception_score *score; // gathers the Inception Score; NULL if it is not asked for
    uint64_t n_scored;
    bool keep;       // the features
    float *features; // (n_features,D)
    size_t n_features;
    // The first file without features, or without spatial statistics, of all its images; NULL if
    // there is none, so that those of the set are of all its images.
    const char *without_features, *without_spatial;
    uint64_t n_images;    // in all; 0 if a file does not tell
    size_t height, width; // of the images; 0 if unknown
    struct part part;     // the images to take, I, I + N, ...
    uint64_t hash;        // of the file, of an archive
};

// Loads the network, unless it is loaded. `what` says who needs it. -1 with an error.
int feature_source_open(struct feature_source *source, const char *what);
void feature_source_close(struct feature_source *source);

// Adds a file: an archive (.npz) or a stream of images; "-" is a stream on standard input. In an
// archive mu, sigma, mu_s and sigma_s give the statistics, features the features, and arr_0
// (N,H,W,3) the images, which serve for what is missing of those. -1 with an error.
int image_set_add(struct image_set *set, struct feature_source *source, const char *path);
// Completes the statistics of a set and writes them to an archive, with the features that it keeps;
// features and spatial statistics that are not of all images are left out, with a note.
// Takes ownership of the output, even on failure. -1 with an error.
int image_set_save(struct image_set *set, struct output *output);
void image_set_free(struct image_set *set);

#endif
