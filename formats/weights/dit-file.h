// Reads and writes a DiT's weights and training state in files. SPDX-License-Identifier: MIT
#ifndef DIT_DIT_FILE_H
#define DIT_DIT_FILE_H

#include <jansson.h>

#include "formats/weights/dit-objective.h"
#include "formats/weights/dit-sets.h"
#include "formats/weights/write-list.h"
#include "lib/model/dit.h"
#include "lib/model/trainer.h"

// An open file of weights, in safetensors or PyTorch's format, under the published or diffusers'
// names, which any words may precede (dit-sets.h). It holds bare weights, or a training: a
// checkpoint of dit-train has the averaged weights (EMA) under bare names, `model.*` and `opt.*`;
// one of PyTorch `ema.*`, `model.*` and `opt.state.*`. An optimizer's state of other kinds is
// passed over. The struct points into itself, so it must not be copied.
struct dit_file {
    char *path;
    struct weights weights; // weights.metadata is the checkpoint's
    struct dit_config config;
    struct objective objective;                // complete
    struct average more[TRAINER_AVERAGES_MAX]; // the further averages
    size_t n_more;
    bool has_training;           // the file holds all arrays, so that training can resume
    char foreign_optimizer[256]; // why its optimizer's state is not that of AdamW; "" without one
    bool classes_said;           // else the last row of the class table is taken for no class
    struct dit_sets sets;
    enum naming_style style;
    struct layout layout;
    struct naming naming;
    struct binding arrays[TRAINER_ARRAYS_MAX]; // .tensors is NULL if the file lacks the array
    const struct weight *positions[TRAINER_ARRAYS_MAX]; // the array's pos_embed (1,T,D), or NULL
};

// What the user says that a file may not; 0 is unknown.
struct dit_hints {
    size_t heads;               // --heads
    struct objective objective; // --objective, --path, --prediction
    size_t image_size; // --image-size: the images' side in pixels, 8 times that of the latents
    bool other_data;   // the data decide the size, so that the file need not
};

// path is a file, the folder of a run, or one of diffusers. The sizes are read from the tensors'
// shapes. The number of heads comes from the first of these that tells it: the metadata
// (`num_heads`), the config.json beside the file (the hints must agree with these two), the hints,
// the published model of this width, a width of 64 or 72 a head. The images' size comes from the
// hints, `pos_embed`, the metadata or the config.json. hints may be NULL. Returns -1 with an error
// that names a tensor that is missing, misshapen or extra; also for a broken config.json, or hints
// that contradict the file.
int dit_file_open(struct dit_file *file, const char *path, const struct dit_hints *hints);
void dit_file_close(struct dit_file *file);
// Reads a whole number from the metadata. -1 with an error.
int dit_file_number(const struct dit_file *file, const char *key, uint64_t *number);
// Reads how many updates the optimizer has done. -1 with an error if the file doesn't say it.
int dit_file_updates(const struct dit_file *file, uint64_t *updates);

// The share of the weights that the averaging began with in the averaged weights: what the metadata
// says as ema_start, else what the decay makes of the number of updates. 0 if neither is known.
double dit_file_ema_start(const struct dit_file *file);
#define DIT_FILE_START_MAX 0.01 // a larger share shows in pictures

// A further average has the number DIT_WEIGHTS_MORE or above.
enum dit_weights { DIT_WEIGHTS_EMA, DIT_WEIGHTS_MODEL, DIT_WEIGHTS_MORE };
// Reads "ema", "model", "ema:DECAY" or "power:WIDTH". -1 with an error, also if the file has no
// such average.
int dit_file_parse_which(const struct dit_file *file, const char *text, enum dit_weights *which);
// The array that is meant. A file with one set of weights, which its names don't call averaged,
// holds it as both. NULL with an error.
const struct binding *dit_file_choose(const struct dit_file *file, enum dit_weights which);
// For each parameter its values in the mapped file, or NULL if they can't be used there, as dit_new
// takes them. The array is malloc'd, and good while the file is open. NULL with an error.
const float **dit_file_in_place(const struct dit_file *file, enum dit_weights which);
// Gives a model the file's table of positions, and its weights one tensor at a time, but not those
// that the model uses in place. -1 with an error.
int dit_file_load(const struct dit_file *file, enum dit_weights which, struct dit *dit);
// Whether the file's averaged weights were trained with another table of positions than a DiT's.
bool dit_file_has_own_positions(const struct dit_file *file);
// Reads the averaged weights into weights[layout->size] of a model to be fine-tuned. The rows of
// its classes, if they are `new_classes`, and of a null class that the file lacks are left as they
// are. -1 with an error.
int dit_file_initial_weights(const struct dit_file *file, const struct dit_config *model,
                             const struct layout *layout, bool new_classes, float *weights);

// Restores a trainer's arrays and its number of updates. -1 with an error, also if the sizes of the
// trainer's model are not the file's.
int dit_file_restore(const struct dit_file *file, struct trainer *trainer);
// Compares the whole file with its checksum (formats/containers/checksum.h), if it has one. -1 with
// an error if they differ.
int dit_file_check(const struct dit_file *file);

// Where a checkpoint's values come from: a trainer, or a copy of its arrays.
struct dit_source {
    const struct dit_config *config;
    const struct layout *layout;
    uint64_t updates;
    const struct average *more; // (n_more): the further averages
    size_t n_more;
    bool alone; // one set of weights, TRAINER_EMA, without a training
    // Returns values[param->count], which must stay until the next call, or NULL with an error. It
    // is called for each array, and in it for each parameter, in their order.
    const float *(*get)(void *user, enum trainer_array array, const struct param *param);
    void *user;
};
// Writes a checkpoint and commits the output, or discards it. metadata, an object of strings, gets
// the model's sizes, the updates and a checksum added. -1 with an error.
int dit_file_save(struct output *output, const struct dit_source *source, json_t *metadata);
// Writes further average number i of a file as weights alone, as dit_file_save does. The metadata
// says which one it is as "average", and the number of updates.
int dit_file_save_average(struct output *output, const struct dit_file *file, size_t i);
// Deletes the keys that begin with `start`, or those that are of a training and not of its weights.
void dit_file_drop_metadata(json_t *metadata, const char *start);
void dit_file_drop_training(json_t *metadata);
// The rest are parts of dit_file_save, for a program that rewrites checkpoints. -1 with an error.
// Lists a checkpoint's tensors in their order, after the table of positions: those of the arrays
// that `arrays[TRAINER_ARRAYS + n_more]` has, or if it is NULL all, with values that the list
// fetches.
int dit_file_list_arrays(struct write_list *list, const struct naming *naming,
                         const struct binding *arrays, const struct average *more, size_t n_more);
// What precedes the names of a further average.
#define DIT_AVERAGE_SIZE (AVERAGE_TEXT_SIZE + 8)
void dit_file_average_prefix(const struct average *average, char prefix[DIT_AVERAGE_SIZE]);
int dit_file_add_sizes(json_t *metadata, const struct dit_config *config);
int dit_file_add_updates(json_t *metadata, uint64_t updates);

#endif
