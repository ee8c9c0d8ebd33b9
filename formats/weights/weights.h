// Opens files of weights: the named tensors of safetensors documents and of PyTorch's files.
// SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_H
#define DIT_WEIGHTS_H

#include <jansson.h>
#include <stddef.h>

#include "formats/weights/weight.h"
#include "lib/base/io.h"

struct weights {
    const char *path; // the caller's; it must outlive the weights
    // An object of strings, perhaps empty. Of safetensors it is the document's metadata. Of PyTorch
    // it holds the numbers and strings, named as tensors are ("args.model", "opt.state.1.step"),
    // and the entries of a dict "metadata" at the root under their own keys.
    json_t *metadata;
    size_t n_weights;
    struct weight *all; // in the file's order (of PyTorch that of the dicts)
    // All that follows is private.
    struct mapping mapping;
    char *names;
    size_t *by_name; // indices sorted by name
    struct weight_sums *sums;
};

// Maps a file and recognizes its format by its content: safetensors, PyTorch's zip archive (stored
// members, also zip64) or the layout before PyTorch 1.6. It runs no code from the file, and takes
// at most 300 MB of memory beside the mapping. Returns -1 with an error: 66 if the file cannot be
// opened, 65 if its content is anything else or broken.
int weights_open(struct weights *weights, const char *path);
void weights_close(struct weights *weights);
const struct weight *weights_find(const struct weights *weights, const char *name); // or NULL
const char *weights_get(const struct weights *weights, const char *key); // metadata or NULL

#endif
