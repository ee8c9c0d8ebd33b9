// One tensor of a file of weights, read where it lies in the mapped file.
// SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHT_H
#define DIT_WEIGHT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/tensor.h"

struct weight {
    // Owned by struct weights. Tensors of PyTorch are named by the keys of the dicts that lead to
    // them, joined by dots: "model.blocks.0.attn.qkv.weight".
    const char *name;
    enum dtype dtype;
    size_t rank;
    size_t shape[TENSOR_RANK_MAX];
    size_t strides[TENSOR_RANK_MAX]; // in elements
    const uint8_t *data;             // the first element, at any alignment
    struct weight_sums *sums;        // private: NULL if the file has no checksums
    size_t number;                   // private: of the tensor in them
};

size_t weight_count(const struct weight *weight); // elements
size_t weight_rows(const struct weight *weight);  // the first dimension; 1 for a scalar
// Compares the tensor with its checksum, if the file has one, when it is first called. Who reads a
// tensor calls it before; weight_read_floats does. -1 with an error (65) that names the tensor.
int weight_check(const struct weight *weight);
// These two read rows row .. row + rows - 1 in C order: as float32, or in the tensor's own type.
// weight_read_floats returns -1, with an error that names the tensor, if it holds no floats
// or is damaged.
int weight_read_floats(const struct weight *weight, size_t row, size_t rows, float *out);
void weight_read(const struct weight *weight, size_t row, size_t rows, void *out);
// The tensor's values in the file itself, if they are float32, aligned and in C order; else NULL.
const float *weight_in_place(const struct weight *weight);

#endif
