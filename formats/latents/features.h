// Reads the folders of extracted features that fast-DiT trains on. SPDX-License-Identifier: MIT
//
// Each image is a pair of files NUMBER.npy in two folders: a sample of its latent, multiplied by
// the autoencoder's scale, as floats (1, C, h, w); and its label, a single integer.
#ifndef DIT_FEATURES_H
#define DIT_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#define FEATURES_DOWNSAMPLE 8 // image side / latent side, by the Stable Diffusion autoencoder

struct features {
    char *latents, *labels; // the folders
    size_t n;
    uint64_t *numbers; // (n): of the files in either folder, ascending
    size_t shape[3];   // (C, h, w) of the first latent that can be read
    size_t count;      // values of a latent
};

// folders: NULL-terminated; either those of the latents and of the labels, or one that contains a
// single pair of folders NAME_features and NAME_labels. Calls `stray`, with the error set, for each
// file of another name. -1 with an error, also if no latent can be read.
int features_open(struct features *features, char **folders, void (*stray)(const char *path));
void features_close(struct features *features);

// The path of an image's latent; malloc'd. NULL with an error.
char *features_path(const struct features *features, uint64_t number);
// Reads the latent (C, h, w) and the label of an image. -1 with an error that names the file if one
// is missing, unreadable, or of another type or shape. Thread-safe.
int features_read(const struct features *features, uint64_t number, float *latent, int64_t *label);

#endif
