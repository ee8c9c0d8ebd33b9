// A DiT's weights and training state in files. SPDX-License-Identifier: MIT
#ifndef DIT_DIT_FILE_H
#define DIT_DIT_FILE_H

#include <jansson.h>

#include "formats/safetensors.h"
#include "lib/dit.h"
#include "lib/trainer.h"

// An open file of weights: safetensors with the published names, from which one samples (a
// checkpoint's EMA), perhaps with `model.*` and `opt.*` beside them.
struct dit_file {
    const char *path;
    struct safetensors doc; // doc.metadata holds what a checkpoint says of itself
    struct dit_config config;
    bool has_training; // model.* and opt.* are there: training can resume
};

// Reads the sizes from the tensors' shapes and the number of heads from the metadata (`num_heads`),
// without which it is that of the published model of this width, or width / 64. -1 with an error.
int dit_file_open(struct dit_file *file, const char *path);
void dit_file_close(struct dit_file *file);
// A whole number in the metadata. -1 with an error.
int dit_file_number(const struct dit_file *file, const char *key, uint64_t *number);

enum dit_weights { DIT_WEIGHTS_EMA, DIT_WEIGHTS_MODEL };
// Gives a model the file's weights, one tensor at a time. DIT_WEIGHTS_MODEL takes the published
// names too where the file has no other. -1 with an error that names a missing or misshapen tensor.
int dit_file_load(const struct dit_file *file, enum dit_weights which, struct dit *dit);
// For fine-tuning: the averaged weights into weights[layout->size], of a model perhaps with another
// number of classes, whose table is then left as it is there; *new_classes says so.
int dit_file_initial_weights(const struct dit_file *file, const struct layout *layout,
                             float *weights, bool *new_classes);

// All arrays of a trainer and its number of updates.
int dit_file_restore(const struct dit_file *file, struct trainer *trainer);
// Writes all arrays of the trainer; metadata (object of strings) gets the model's sizes added.
int dit_file_save(const char *path, struct trainer *trainer, json_t *metadata);

#endif
