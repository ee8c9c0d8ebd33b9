// What torch.save writes: a pickled value, and the storages that its tensors lie in.
// SPDX-License-Identifier: MIT
#ifndef DIT_TORCH_FILE_H
#define DIT_TORCH_FILE_H

#include "formats/containers/pickle.h"
#include "formats/containers/zip-read.h"
#include "lib/base/tensor.h"

struct torch_storage {
    const char *key; // in the file; not terminated
    size_t key_size;
    enum dtype dtype;
    size_t count;        // elements
    const uint8_t *data; // NULL until it is found
};

struct torch_file {
    struct pickle pickle; // its root is what was saved; all else is private
    struct zip_directory zip;
    char *path; // of a storage in the zip archive: "NAME/data/" and room for the key
    size_t path_size;
    struct torch_storage *storages; // of the older layout, sorted by key; NULL for a zip archive
    size_t n_storages;
};

// What the first bytes of a file say.
bool torch_is_zip(const uint8_t *bytes, size_t size);
bool torch_is_legacy(const uint8_t *bytes, size_t size);
bool torch_is_tar(const uint8_t *bytes, size_t size);

// A file of PyTorch 1.6 or later, and one of the layout before that. The bytes must outlive it. -1
// with an error (65).
int torch_open_zip(struct torch_file *file, const uint8_t *bytes, size_t size);
int torch_open_legacy(struct torch_file *file, const uint8_t *bytes, size_t size);
void torch_close(struct torch_file *file);

// The storage of a persistent id. -1 with an error (65) that names it.
int torch_find_storage(const struct torch_file *file, const struct pickle_value *id,
                       struct torch_storage *storage);

// The element type of "torch.float32" and its like. -1, no message, if there is none.
int torch_find_dtype(const struct pickle_value *global, enum dtype *dtype);

// Between the sources of the two layouts.
#define TORCH_LEGACY_MAGIC "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" // an integer
struct torch_part {
    size_t start, count;
};
// What a persistent id says of a storage, but for its place; and which part of it is meant.
int torch_parse_storage(const struct pickle_value *id, struct torch_storage *storage,
                        struct torch_part *part);
int torch_find_legacy(const struct torch_file *file, struct torch_storage *storage);

#endif
