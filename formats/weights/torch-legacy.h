// The layout of PyTorch's files before version 1.6: five pickles (a magic number, a version, the
// system, what was saved, the keys of the storages), then every storage, as a count of 64 bits and
// its elements. SPDX-License-Identifier: MIT
#ifndef DIT_TORCH_LEGACY_H
#define DIT_TORCH_LEGACY_H

#include "formats/weights/torch-storage.h"

struct torch_legacy {
    struct torch_storage *storages; // sorted by key
    size_t n_storages;
};

bool torch_legacy_matches(const uint8_t *bytes, size_t size); // by the first bytes
// Reads a file's value into `saved`, and finds the storages that its tensors name. The bytes must
// outlive both; the caller frees both, also after -1 with an error (65).
int torch_legacy_read(struct torch_legacy *legacy, struct pickle *saved, const uint8_t *bytes,
                      size_t size);
void torch_legacy_free(struct torch_legacy *legacy);
// Sets the storage's data. -1 with an error (65) if the file does not hold it.
int torch_legacy_find(const struct torch_legacy *legacy, struct torch_storage *storage);

#endif
