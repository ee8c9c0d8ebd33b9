// NumPy's .npy files: one array each. SPDX-License-Identifier: MIT
#ifndef DIT_NPY_H
#define DIT_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/tensor.h"

struct npy {
    enum dtype dtype; // F16 F32 F64, I8 to I64, U8 to U64
    size_t rank;
    size_t shape[TENSOR_RANK_MAX];
    size_t count;        // elements
    const uint8_t *data; // in C order; aligned to nothing
    uint8_t *file;       // private
};

// A regular file, of version 1.0, 2.0 or 3.0, with at most size_max bytes of data, little-endian
// and in C order. -1 with an error that names the file: 66 if it can't be read, 65 for the rest.
int npy_read(struct npy *npy, const char *path, size_t size_max);
void npy_free(struct npy *npy); // of npy_read
// As npy_read, of a file in memory, into which npy->data points.
int npy_parse(struct npy *npy, const uint8_t *file, size_t size);

#endif
