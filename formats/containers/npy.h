// Reads NumPy's .npy files, of one array each. SPDX-License-Identifier: MIT
#ifndef DIT_NPY_H
#define DIT_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/tensor.h"

struct npy {
    enum dtype dtype; // F16 F32 F64, I8 to I64 or U8 to U64
    size_t rank;
    size_t shape[TENSOR_RANK_MAX];
    size_t count;        // elements
    const uint8_t *data; // (shape), in C order; may be unaligned
    uint8_t *file;       // private
};

// Reads a regular file of version 1.0, 2.0 or 3.0 with at most size_max bytes of data, which must
// be little-endian and in C order. -1 with an error that names the file: 66 if it can't be read,
// else 65.
int npy_read(struct npy *npy, const char *path, size_t size_max);
void npy_free(struct npy *npy); // after npy_read
// Parses a file in memory as npy_read does. npy->data points into it.
int npy_parse(struct npy *npy, const uint8_t *file, size_t size);
// Parses what stands before the data, which need not be there: npy->data points to its place, or
// beyond the first `size` bytes of the file. Any count that a size_t holds is accepted.
int npy_parse_header(struct npy *npy, const uint8_t *file, size_t size);
#define NPY_HEADER_MAX ((size_t)64 << 10) // bytes before the data; NumPy accepts 10,000

// Makes what stands before the data. All headers have one size, so that one can be rewritten when
// the first dimension is known.
#define NPY_HEADER_SIZE 128
void npy_make_header(uint8_t header[NPY_HEADER_SIZE], enum dtype dtype, const size_t *shape,
                     size_t rank);

#endif
