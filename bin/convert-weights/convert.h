// Files of weights from one format, one set of names and one type to another.
// SPDX-License-Identifier: MIT
#ifndef DIT_CONVERT_H
#define DIT_CONVERT_H

#include "bin/convert-weights/weights-copy.h"
#include "formats/weights/dit-file.h"

enum convert_names { CONVERT_PUBLISHED, CONVERT_DIFFUSERS, CONVERT_LDM };
enum convert_which { CONVERT_EMA, CONVERT_MODEL, CONVERT_ALL };

struct convert_options {
    int names;        // enum convert_names; -1: published for a DiT, diffusers for an autoencoder
    int which;        // enum convert_which; -1: all of a training, if it can be, else the EMA
    enum dtype dtype; // of the weights; DTYPE_COUNT: as they are
    struct dit_hints hints;
};

// `in`: a DiT's weights or training, or an autoencoder, as dit_file_open and kl_file_open take
// them. `out`: its ending says the format; it appears when it is complete, and may be `in`. -1 with
// an error.
int convert_file(const char *in, const char *out, const struct convert_options *options);

// The parts of it. torch: PyTorch's format, else safetensors.
bool convert_is_torch(const char *path);
int convert_dit(const char *in, const char *out, const struct convert_options *options);
// Begins and ends the progress and the output round what `write` does with them.
int convert_write(const char *out, const struct copies *copies,
                  int (*write)(const struct copies *copies, struct output *output, void *user),
                  void *user);
// A state dict, within a dict as its `wrapper` if that is not NULL.
int convert_write_state_dict(const struct copies *copies, const char *wrapper,
                             struct output *output);
// A dict of model, ema, opt, args and metadata, as fast-DiT's train.py saves it but for the last.
// copies: the state dicts of `model.` and `ema.`; then, if there are any more, for each parameter
// in the same order `step`, `exp_avg` and `exp_avg_sq`.
int convert_write_training(const struct copies *copies, size_t n_params,
                           const struct dit_config *config, const json_t *metadata,
                           struct output *output);

#endif
