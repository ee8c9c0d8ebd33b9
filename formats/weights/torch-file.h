// Reads what torch.save wrote: a pickled value, and the storages that its tensors lie in.
// SPDX-License-Identifier: MIT
#ifndef DIT_TORCH_FILE_H
#define DIT_TORCH_FILE_H

#include "formats/containers/pickle.h"
#include "formats/containers/zip-read.h"
#include "formats/weights/torch-legacy.h"
#include "formats/weights/torch-storage.h"

struct torch_file {
    struct pickle pickle; // its root is what was saved
    // All that follows is private.
    struct zip_directory zip;
    char *path; // of a storage in the zip archive, "NAME/data/" with room for the key; else NULL
    size_t path_size;
    struct torch_legacy legacy;
};

// These look at the first bytes: a file of either layout; a tar archive of PyTorch before 0.2.
bool torch_is_file(const uint8_t *bytes, size_t size);
bool torch_is_tar(const uint8_t *bytes, size_t size);

// Opens a file for which torch_is_file holds. The bytes must outlive it. -1 with an error (65).
int torch_open(struct torch_file *file, const uint8_t *bytes, size_t size);
void torch_close(struct torch_file *file);
// Finds the storage of a persistent id, or the part of it that is meant. -1 with an error (65) that
// names it.
int torch_find_storage(const struct torch_file *file, const struct pickle_value *id,
                       struct torch_storage *storage);

#endif
