// A DiT's weights and training state in files. SPDX-License-Identifier: MIT
#ifndef DIT_DIT_FILE_H
#define DIT_DIT_FILE_H

#include <jansson.h>

#include "formats/weights/write-list.h"
#include "lib/model/dit.h"
#include "lib/model/trainer.h"

// An open file of weights, safetensors or PyTorch's, under the published or diffusers' names: bare,
// or with a training's state beside them. A checkpoint of dit-train has the averaged weights (EMA)
// bare, and `model.*` and `opt.*`; one of PyTorch `ema.*`, `model.*` and `opt.state.*`.
// It holds pointers into itself: not to be copied.
struct dit_file {
    char *path;
    struct weights weights; // weights.metadata holds what a checkpoint says of itself
    struct dit_config config;
    bool has_training; // model and optimizer state are there: training can resume
    enum naming_style style;
    struct layout layout;
    struct naming naming;
    struct binding arrays[TRAINER_ARRAYS]; // of no tensors where the file has none of that kind
    const struct weight *positions[TRAINER_ARRAYS]; // pos_embed (1,T,D) beside them, or NULL
};

// What a file may not say; 0: not known.
struct dit_hints {
    size_t heads;      // --heads
    size_t image_size; // --image-size, in pixels of an autoencoder that divides by 8
    bool other_data;   // the size will be that of other data: here it need not be known
};

// path: a file, or a folder of diffusers. The sizes are read from the tensors' shapes. The number
// of heads is that of the hints, of the metadata (`num_heads`), of the config.json beside the file,
// of the published model of this width, or width / 64 or / 72; the image's size that of
// `pos_embed`, the config.json or the hints. -1 with an error that names what is missing, misshapen
// or extra.
int dit_file_open(struct dit_file *file, const char *path, const struct dit_hints *hints);
void dit_file_close(struct dit_file *file);
// A whole number in the metadata. -1 with an error.
int dit_file_number(const struct dit_file *file, const char *key, uint64_t *number);
// Number of updates that the optimizer has done. -1 with an error if the file doesn't say it.
int dit_file_updates(const struct dit_file *file, uint64_t *updates);

enum dit_weights { DIT_WEIGHTS_EMA, DIT_WEIGHTS_MODEL };
// The array that is meant; bare weights are both, and the model's those that are averaged where
// there are no others. NULL with an error.
const struct binding *dit_file_choose(const struct dit_file *file, enum dit_weights which);
// For each parameter where it lies in the mapped file, if it can be used there, else NULL: as
// dit_new takes it. malloc'd; good while the file is open. NULL with an error.
const float **dit_file_in_place(const struct dit_file *file, enum dit_weights which);
// Gives a model the file's weights, one tensor at a time, but for those that it holds in place, and
// its table of positions.
int dit_file_load(const struct dit_file *file, enum dit_weights which, struct dit *dit);
// Whether its averaged weights go with another table of positions than a DiT's.
bool dit_file_has_own_positions(const struct dit_file *file);
// For fine-tuning: the averaged weights into weights[layout->size], of a model perhaps with another
// number of classes, whose table is then left as it is there; *new_classes says so.
int dit_file_initial_weights(const struct dit_file *file, const struct layout *layout,
                             float *weights, bool *new_classes);

// All arrays of a trainer and its number of updates.
int dit_file_restore(const struct dit_file *file, struct trainer *trainer);
// Where a checkpoint's values come from: a trainer, or a copy of its arrays.
struct dit_source {
    const struct dit_config *config;
    const struct layout *layout;
    uint64_t updates;
    // Returns values[param->count], which must stay until the next call, or NULL with an error. It
    // is called for each array, and in it for each parameter, in their order.
    const float *(*get)(void *user, enum trainer_array array, const struct param *param);
    void *user;
};
// Writes a checkpoint. metadata, an object of strings, gets the model's sizes, the updates and a
// checksum added.
int dit_file_save(const char *path, const struct dit_source *source, json_t *metadata);
// The parts of dit_file_save, for a program that rewrites checkpoints. After the table of positions
// the tensors of a checkpoint are listed in their order: those that `arrays[TRAINER_ARRAYS]` has,
// or with NULL those of all arrays, for the list to fetch. -1 with an error.
int dit_file_list_arrays(struct write_list *list, const struct naming *naming,
                         const struct binding *arrays);
int dit_file_add_sizes(json_t *metadata, const struct dit_config *config);
int dit_file_add_updates(json_t *metadata, uint64_t updates);
// Compares the whole file with its checksum (formats/containers/checksum.h), if it has one. -1 with
// an error.
int dit_file_check(const struct dit_file *file);

#endif
