// Lists the tensors of a file of PyTorch by name. SPDX-License-Identifier: MIT
#ifndef DIT_TORCH_WEIGHTS_H
#define DIT_TORCH_WEIGHTS_H

#include "formats/weights/torch-file.h"
#include "formats/weights/weights-list.h"

// Adds the tensors and the metadata of a file of `file_size` bytes, named as weights.h says, to a
// list whose metadata is an empty object. Passes over tuples, objects of other classes and lists,
// but not over those of nothing but tensors.
// Returns -1 with an error (65).
int torch_list_weights(const struct torch_file *file, size_t file_size, struct weights_list *list);

#endif
