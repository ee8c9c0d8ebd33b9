// The folders of extracted features that fast-DiT trains on. SPDX-License-Identifier: MIT
//
// An image is a pair of files NUMBER.npy, in two folders: its latent, a draw multiplied by the
// autoencoder's scale, floats of (1, C, h, w); and its label, one whole number.
#ifndef DIT_FEATURES_H
#define DIT_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#define FEATURES_DOWNSAMPLE 8 // image side / latent side, by the Stable Diffusion autoencoder

struct features {
    char *latents, *labels; // the folders
    size_t n;
    uint64_t *numbers; // (n): ascending; those of all files, in one folder or in both
    size_t shape[3];   // of a latent (C, h, w): the first that can be read has it
    size_t count;      // values of a latent
};

// folders, NULL-terminated: those of the latents and of the labels; or one that holds a single
// folder NAME_features and NAME_labels. A file of another name is handed to `stray` with the error
// set. -1 with an error, also if no latent can be read.
int features_open(struct features *features, char **folders, void (*stray)(const char *path));
void features_close(struct features *features);

// The path of a number's latent; malloc'd.
char *features_path(const struct features *features, uint64_t number);
// The latent (C, h, w) and the label of a number. -1 with an error, which names the file, if one is
// missing, unreadable or of another form. Thread-safe.
int features_read(const struct features *features, uint64_t number, float *latent, int64_t *label);

#endif
