// The safetensors format: documents in memory. SPDX-License-Identifier: MIT
// u64 little-endian header length, JSON header, data.
#ifndef DIT_SAFETENSORS_H
#define DIT_SAFETENSORS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/tensor.h"

struct safetensor {
    const char *name; // owned by the document
    enum dtype dtype;
    size_t rank;
    size_t shape[TENSOR_RANK_MAX];
    size_t offset; // from the start of the data
    size_t size;   // bytes
};

struct safetensors {
    json_t *metadata; // object of strings, empty if there is none; owned
    size_t n_tensors;
    struct safetensor *tensors; // in the order of their data
    size_t header_size;         // bytes before the data: 8 + header length
    size_t data_size;
    const uint8_t *data; // start of the data, if it is in memory
    json_t *root;        // private
};

// Parses the header of a document of which `available` bytes are in memory and whose total size is
// `total`. Rejects (65): header over header_max or past the end, not starting with '{', not JSON,
// duplicate keys, non-string metadata, unknown dtypes, rank over 8, offsets or shapes that
// overflow, overlap, leave gaps or don't fill the data.
int safetensors_parse(struct safetensors *doc, const uint8_t *bytes, size_t available, size_t total,
                      size_t header_max);
void safetensors_close(struct safetensors *doc);
const char *safetensors_get(const struct safetensors *doc, const char *key); // metadata or NULL
// The tensor's bytes (need no alignment).
const uint8_t *safetensors_data(const struct safetensors *doc, const struct safetensor *tensor);

// Builds "length + header" of a document whose tensors have name, dtype, rank and shape set, in
// the order of their data, which must fall in element size. Sets their offset and size. Padded with
// spaces so that the data starts at a multiple of 64. *header is malloc'd. metadata may be NULL.
int safetensors_build_header(struct safetensor *tensors, size_t n, const json_t *metadata,
                             uint8_t **header, size_t *header_size);

#endif
