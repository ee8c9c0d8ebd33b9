// What the sources of convert-weights share. SPDX-License-Identifier: MIT
#ifndef DIT_CONVERT_H
#define DIT_CONVERT_H

#include "formats/weights/dit-file.h"
#include "formats/weights/write-list.h"

enum convert_names { CONVERT_PUBLISHED, CONVERT_DIFFUSERS, CONVERT_LDM };

struct convert_options {
    int names; // enum convert_names; -1: published for a DiT, diffusers for an autoencoder
    // --which of dit-sample, or "all"; NULL: all of a training if that can be written, else the EMA
    const char *which;
    enum dtype dtype; // of the weights; DTYPE_COUNT keeps the type of each tensor
    struct dit_hints hints;
};

// Convert a DiT's weights or training, an autoencoder, or the Inception network of FID. OUT appears
// when it is complete, and may be IN. -1 with an error.
int convert_dit(const char *in, const char *out, const struct convert_options *options);
int convert_kl(const char *in, const char *out, const struct convert_options *options);
int convert_inception(const char *in, const char *out, const struct convert_options *options);

// The ending of OUT names its format. -1 with an error if it names none.
int convert_check_ending(const char *out);
bool convert_is_torch(const char *out); // else safetensors
// Opens OUT, lets `write` write the list there, with progress, and commits it. -1 with an error,
// also if the tensors of IN, which has in_size bytes, would become far larger: a file can share a
// few between many names, and diffusers has a copy of some in each block.
int convert_write(const char *out, struct write_list *list, size_t in_size,
                  int (*write)(const struct write_list *list, struct output *output, void *user),
                  void *user);
// The config.json beside OUT. The first refuses to replace that of another class of models, before
// anything is written; the second takes the reference to `config`, NULL if memory was out for it.
// OUT that is not a regular file gets none. -1 with an error.
int convert_check_config(const char *out, const char *class_name);
int convert_write_config(const char *out, json_t *config);
// Writes the list for PyTorch as a state dict, which is the value of the key `wrapper` in another
// dict unless that is NULL. -1 with an error.
int convert_write_state_dict(const struct write_list *list, const char *wrapper,
                             struct output *output);
// Writes a training for PyTorch: the dict of model, ema, opt and args that fast-DiT's and SiT's
// train.py save, and metadata. The list holds the state dicts of `model.` and `ema.`, and then,
// unless the optimizer's state is missing, `step`, `exp_avg` and `exp_avg_sq` of each parameter in
// the same order. -1 with an error.
int convert_write_training(const struct write_list *list, size_t n_params,
                           const struct dit_config *config, const struct objective *objective,
                           const json_t *metadata, struct output *output);

#endif
