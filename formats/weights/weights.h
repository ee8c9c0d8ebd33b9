// Files of weights: the named tensors of safetensors documents and of PyTorch's files.
// SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_H
#define DIT_WEIGHTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"
#include "lib/base/tensor.h"

struct weight {
    const char *name; // owned by the file. PyTorch: the dicts' keys on the way to it, joined by
                      // dots: "model.blocks.0.attn.qkv.weight"
    enum dtype dtype;
    size_t rank;
    size_t shape[TENSOR_RANK_MAX];
    size_t strides[TENSOR_RANK_MAX]; // in elements
    const uint8_t *data; // the first element, in the mapped file; not aligned to anything
};

struct weights {
    const char *path; // the caller's
    // Object of strings, perhaps empty: a safetensors document's metadata. PyTorch: the numbers and
    // strings of the file by the same joined keys ("args.model", "opt.state.1.step"), and those of
    // a dict named "metadata" at the root by their own.
    json_t *metadata;
    size_t n_weights;
    struct weight *all;     // in the file's order (PyTorch: the dicts')
    struct mapping mapping; // private, as is what follows
    char *names;
    size_t *by_name; // indices sorted by name
};

// Maps a file; its content says what it is: safetensors, PyTorch's zip (stored members, also
// zip64) or PyTorch's older layout. Nothing in the file is called, and what it says is bounded: by
// its size, and 300 MB of memory beyond it. -1 with an error: 66 where it can't be opened; 65, with
// what was expected, for everything else, also for a tar archive of PyTorch before 0.2.
int weights_open(struct weights *weights, const char *path);
void weights_close(struct weights *weights);
const struct weight *weights_find(const struct weights *weights, const char *name); // or NULL
const char *weights_get(const struct weights *weights, const char *key); // metadata or NULL

size_t weight_count(const struct weight *weight); // elements
// Rows row .. row + rows - 1 (along the first dimension; all: 0, weight->rank ? shape[0] : 1), in C
// order: as float32 (-1 with an error that names the tensor unless it holds floats) or as they are.
int weight_read_floats(const struct weight *weight, size_t row, size_t rows, float *out);
void weight_read(const struct weight *weight, size_t row, size_t rows, void *out);
// The tensor where it lies in the file, if that is an array of float32 in C order at an address
// fit for it; else NULL.
const float *weight_in_place(const struct weight *weight);

#endif
