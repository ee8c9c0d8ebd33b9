// Opens files of weights: the named tensors of safetensors documents and of PyTorch's files.
// SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_H
#define DIT_WEIGHTS_H

#include <jansson.h>
#include <stddef.h>

#include "formats/weights/weight.h"
#include "lib/base/mapping.h"

struct weights {
    const char *path; // the caller's; it must outlive the weights
    // An object of strings, perhaps empty. Of safetensors it is the document's metadata. Of PyTorch
    // it holds the numbers and strings, named as tensors are ("args.model", "opt.state.1.step"),
    // and the entries of a dict "metadata" at the root under their own keys.
    json_t *metadata;
    size_t n_weights;
    struct weight *all;  // in the file's order (of PyTorch that of the dicts)
    json_t *unsupported; // the types of tensors that can't be read, by name; NULL without any
    // All that follows is private.
    struct mapping *files; // the file, and those that it names if it is an index
    size_t n_files;
    char *names;
    size_t *by_name; // indices sorted by name
    struct weight_sums *sums;
};

// Maps a file and recognizes its format by its content: safetensors, PyTorch's zip archive (stored
// members, also zip64), the layout before PyTorch 1.6, or an index as diffusers and transformers
// write it (JSON with a "weight_map"), whose files lie beside it. From names the words are left out
// that wrappers of modules add: module, _orig_mod, _forward_module, _checkpoint_wrapped_module,
// _fsdp_wrapped_module. It runs no code from the file, and takes at most 300 MB of memory beside
// the mapping, and 3 times that of the metadata. Returns -1 with an error: 66 if a file cannot be
// opened, 65 if its content is anything else or broken.
int weights_open(struct weights *weights, const char *path);
void weights_close(struct weights *weights);
const struct weight *weights_find(const struct weights *weights, const char *name); // or NULL
// Finds what stands before this end in the names of tensors, nothing or words that end with a dot:
// as strings in prefixes[n_max * size]. Returns their number; -1 with an error (65) if there are
// more, or if one is too long.
int weights_find_prefixes(const struct weights *weights, const char *end, size_t size, size_t n_max,
                          char *prefixes);
// Renames PREFIX + decoder_blocks.N to PREFIX + blocks.(N + first): so REPA's first files call the
// blocks behind the `first` whose output is aligned. -1 with an error (65) if a name exists.
int weights_join_blocks(struct weights *weights, const char *prefix, size_t first);
// The type of a tensor that can't be read; NULL if there is none of this name.
const char *weights_unsupported(const struct weights *weights, const char *name);
size_t weights_file_size(const struct weights *weights); // bytes of all its files
// Compares the whole file with its checksum, if it has one. -1 with an error (65).
int weights_check_file(const struct weights *weights);
// Reads all of the file or files, and compares what has a checksum: also the members of PyTorch's
// zip archives, which torch.save may be told not to sum. -1 with an error (65).
int weights_check_all(const struct weights *weights);
const char *weights_get(const struct weights *weights, const char *key); // metadata or NULL

#endif
