// The tensors of what torch.save wrote, by name. SPDX-License-Identifier: MIT
#ifndef DIT_TORCH_WEIGHTS_H
#define DIT_TORCH_WEIGHTS_H

#include "formats/weights/torch-file.h"
#include "formats/weights/weights-list.h"

// Adds the tensors and the metadata, as weights.h says, of a file of `file_size` bytes. Objects of
// other classes, and what is in lists and tuples, are passed over. -1 with an error (65).
int torch_list_weights(const struct torch_file *file, size_t file_size, struct weights_list *list);

#endif
