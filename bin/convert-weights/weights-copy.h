// Tensors on their way from one file of weights to another: bit for bit, or as another type.
// SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_COPY_H
#define DIT_WEIGHTS_COPY_H

#include "formats/weights/naming.h"
#include "formats/weights/weights.h"
#include "lib/base/io.h"

#define COPY_PARTS_MAX 3 // query, key and value

// A tensor that will be written.
struct copy {
    char name[160];
    enum dtype dtype;
    size_t rank, shape[TENSOR_RANK_MAX];
    const float *values; // the caller's; or NULL, and the rows of these one after another:
    size_t n_parts;
    struct copy_part {
        const struct weight *weight;
        size_t row, rows;
    } parts[COPY_PARTS_MAX];
};

struct copies {
    const char *path; // the file they come from; the caller's, as are the weights
    enum dtype dtype; // to write those as that are added from now on; DTYPE_COUNT: as they are
    size_t n;
    struct copy *all;
};

void copies_free(struct copies *copies);
// Adds a tensor of the file, or of values, as PREFIX + name. -1 with an error.
int copies_add(struct copies *copies, const char *prefix, const char *name,
               const struct weight *weight);
int copies_add_values(struct copies *copies, const char *prefix, const char *name,
                      const size_t *shape, size_t rank, const float *values);
// Adds parameter i of a model by its names in `to`, joined or split from those that the file has.
// -1 with an error: no floats; parts of several types; copies that differ.
int copies_add_param(struct copies *copies, const char *prefix, const struct naming *to,
                     const struct binding *from, size_t i);

// Hands a tensor's bytes on, in C order and in pieces of a few MiB. -1 with an error: that of
// write; a finite value that the type can't hold.
int copy_run(const struct copies *copies, const struct copy *copy,
             int (*write)(void *to, const void *data, size_t size), void *to);
// A whole safetensors document. Tensors keep their order, but for larger elements before smaller.
// metadata may be NULL; where it has a checksum (formats/containers/checksum.h), the file's is set.
int copies_write_safetensors(const struct copies *copies, const json_t *metadata,
                             struct output *output);

#endif
