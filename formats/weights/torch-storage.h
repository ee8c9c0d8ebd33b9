// The storages of PyTorch: typed arrays in a file, in which tensors lie.
// SPDX-License-Identifier: MIT
#ifndef DIT_TORCH_STORAGE_H
#define DIT_TORCH_STORAGE_H

#include "formats/containers/pickle.h"
#include "lib/base/tensor.h"

#define TORCH_KEY_MAX 64 // bytes of a storage's key

struct torch_storage {
    const char *key; // its name in the file, not terminated
    size_t key_size;
    enum dtype dtype;
    // The class of storages, if it is one of PyTorch's that is not supported, whose data are not
    // looked for; else NULL.
    const struct pickle_value *unsupported;
    size_t count;        // elements
    const uint8_t *data; // NULL until it is found in the file
};

// The part of a storage that a persistent id means, in elements.
struct torch_part {
    size_t start, count;
};

// Reads what a persistent id says of a storage, all but its data. -1 with an error (65).
int torch_storage_parse(const struct pickle_value *id, struct torch_storage *storage,
                        struct torch_part *part);
// Whether a global is in a module of PyTorch that has types, or classes of storages.
bool torch_is_type(const struct pickle_value *global);
// The type that a global such as torch.float32 stands for. -1, without an error, if it is none.
int torch_find_dtype(const struct pickle_value *global, enum dtype *dtype);

#endif
