// Reads and writes the safetensors format: u64 little-endian header length, JSON header, data.
// SPDX-License-Identifier: MIT
#ifndef DIT_SAFETENSORS_H
#define DIT_SAFETENSORS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/tensor.h"

struct safetensor {
    const char *name; // owned by the document
    enum dtype dtype;
    const char *unsupported; // NULL, or the type's name, and then only name and place are known
    size_t rank;
    size_t shape[TENSOR_RANK_MAX];
    size_t offset; // from the start of the data
    size_t size;   // bytes
};

struct safetensors {
    json_t *metadata; // JSON object of strings, empty if the header has no __metadata__; owned
    size_t n_tensors;
    struct safetensor *tensors; // in the order of their data
    size_t header_size;         // bytes before the data: 8 + header length
    size_t data_size;
    const uint8_t *data; // start of the data; NULL if only the header is in memory
    json_t *root;        // private
    bool any;            // private: of safetensors_parse_any
};

// Parses the header of a document of `total` bytes, the first `available` of which are in memory;
// they must outlive doc. -1 with an error (65) for a header over header_max or past the end, not
// starting with '{' or not JSON, for duplicate keys, non-string metadata, unknown dtypes, rank over
// 8, and offsets or shapes that overflow, overlap, leave gaps or don't fill the data. Parsing may
// take 90 times header_max of memory.
int safetensors_parse(struct safetensors *doc, const uint8_t *bytes, size_t available, size_t total,
                      size_t header_max);
// Parses the header of a whole file, which anybody may have written: it has at most 100 MB, as the
// format says, types that are not known here are no error, and metadata that C can't hold, with a 0
// byte in it, are left out. It takes at most 3 times the header's size and 200 MB of memory.
int safetensors_parse_any(struct safetensors *doc, const uint8_t *bytes, size_t size);
// Bounds the memory that parsed JSON takes beside its strings, to 200 MB. -1 with an error (65).
int safetensors_check_values(const uint8_t *text, size_t size);
void safetensors_close(struct safetensors *doc);
// The value in the metadata; NULL without an error if there is none.
const char *safetensors_get(const struct safetensors *doc, const char *key);
// The tensor's bytes, which may be unaligned.
const uint8_t *safetensors_data(const struct safetensors *doc, const struct safetensor *tensor);

// Builds the length and header of a document. The tensors have name, dtype, rank and shape set and
// are in the order of their data, by falling element size; their offset and size are set here. The
// header is padded with spaces so that the data starts at a multiple of 64. *header is malloc'd.
// metadata may be NULL. The header is parsed back. -1 with an error.
int safetensors_build_header(struct safetensor *tensors, size_t n, const json_t *metadata,
                             uint8_t **header, size_t *header_size);

#endif
