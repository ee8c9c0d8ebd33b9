// Reads the folders of extracted features that others train on. SPDX-License-Identifier: MIT
//
// Each image is a pair of files NAME.npy at the same place below two folders: its latent, and its
// label, a single integer; or all labels are in one file, dataset.json. A latent is an array of
// floats (1, C, h, w) or (C, h, w): one draw, multiplied by the autoencoder's scale, as fast-DiT
// stores it; or the mean and the standard deviation of its 4 channels, 8 in all and not multiplied,
// as EDM2 and REPA do.
#ifndef DIT_FEATURES_H
#define DIT_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FEATURES_DOWNSAMPLE 8 // image side / latent side, by the Stable Diffusion autoencoder

struct features {
    char *latents, *labels; // the folders; labels may be a file
    size_t n;
    char **names; // (n): of the files in either folder, below it and without ".npy", in the order
                  // that people count: 2 before 10
    int64_t *listed; // (n): the labels if they are in one file, -1 for none; else NULL
    bool spread;     // latents have a mean and a standard deviation
    size_t shape[3]; // (C, h, w) of the first latent that can be read
    size_t count;    // values of that shape
};

// folders: NULL-terminated; either those of the latents and of the labels, which may be a file, or
// one that contains a single pair of folders NAME_features and NAME_labels, or latents and
// dataset.json. draws: arrays of 8 channels are draws, too. Calls `stray`, with the error set, for
// each file of another name. -1 with an error, also if no latent can be read.
int features_open(struct features *features, char **folders, bool draws,
                  void (*stray)(const char *path));
void features_close(struct features *features);

// The path of the latent of image i; malloc'd. NULL with an error.
char *features_path(const struct features *features, size_t i);
// Reads a latent (C, h, w), or its mean and std as they are stored, and the label. std is not used
// without a spread. -1 with an error that names the file if one is missing, unreadable, or of
// another type or shape, or if a standard deviation is negative. Thread-safe.
int features_read(const struct features *features, size_t i, float *mean, float *std,
                  int64_t *label);

#endif
