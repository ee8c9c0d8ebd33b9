// Lists the tensors that a file of weights is to hold, and writes them: from other files, bit for
// bit or as another type, or from memory. SPDX-License-Identifier: MIT
#ifndef DIT_WRITE_LIST_H
#define DIT_WRITE_LIST_H

#include "formats/weights/naming.h"
#include "lib/base/io.h"

#define WRITE_PARTS_MAX 3 // query, key and value

// A tensor to be written. Its values are `values` (the caller's), or the rows of `parts` one after
// another, or what the list's `fetch` gives.
struct write_entry {
    char name[160];
    enum dtype dtype; // as it is written
    size_t rank, shape[TENSOR_RANK_MAX];
    const float *values;
    size_t n_parts;
    struct write_part {
        const struct weight *weight;
        size_t row, rows;
    } parts[WRITE_PARTS_MAX];
};

struct write_list {
    const char *path; // names the tensors' source in messages; the caller's
    enum dtype dtype; // for the tensors added from now on; DTYPE_COUNT keeps their own types
    // Returns the values of entry i, which must stay until the next call, or NULL with an error.
    const float *(*fetch)(void *user, size_t i);
    void *user;
    void (*progress)(uint64_t tensors); // called after each tensor that is written; NULL is fine
    size_t n;
    struct write_entry *entries;
};

void write_list_free(struct write_list *list);
// These add a tensor as PREFIX + name, of a file or of values. The file must stay open, and the
// values must stay, until the list is written. -1 with an error.
int write_list_add(struct write_list *list, const char *prefix, const char *name,
                   const struct weight *weight);
int write_list_add_values(struct write_list *list, const char *prefix, const char *name,
                          const size_t *shape, size_t rank, const float *values);
// Adds parameter i of a model under its names in `to`, joined or split from the tensors that `from`
// has; if that is NULL, `fetch` gives its values as float32. -1 with an error if a tensor holds no
// floats, if parts differ in type, or if copies differ.
int write_list_add_param(struct write_list *list, const char *prefix, const struct naming *to,
                         const struct binding *from, size_t i);

// Passes the bytes of entry i to `write`, in C order and in pieces of a few MiB. -1 with an error
// if write fails, if the type can't hold a finite value, or if a tensor is damaged.
int write_list_copy(const struct write_list *list, size_t i,
                    int (*write)(void *to, const void *data, size_t size), void *to);
// Writes a whole safetensors document, without committing the output. Larger elements come before
// smaller ones, otherwise the tensors keep their order. metadata may be NULL; if it reserves the
// file's checksum (formats/containers/checksum.h), that and those of the tensors are set. -1 with
// an error.
int write_list_safetensors(const struct write_list *list, const json_t *metadata,
                           struct output *output);

#endif
