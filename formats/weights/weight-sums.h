// The checksums of a checkpoint's tensors, compared when a tensor is first read.
// SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHT_SUMS_H
#define DIT_WEIGHT_SUMS_H

#include <stddef.h>
#include <stdint.h>

struct weight_sums;

// For the n tensors, numbered in the order of their data, of a safetensors file that is in memory.
// The file must stay there. The header's own sum is checked at once. Returns 0 and sets *sums, to
// NULL if the file has no sums; -1 with an error (65 if the header is damaged).
int weight_sums_new(struct weight_sums **sums, size_t n, const uint8_t *bytes, size_t size);
void weight_sums_free(struct weight_sums *sums); // NULL is fine
// Compares the bytes of tensor i with its sum, unless that was done before. A file that has only a
// sum of the whole is read whole, once. -1 with an error (65).
int weight_sums_check(struct weight_sums *sums, size_t i, const void *data, size_t size);
// Compares the whole file with its sum, unless that was done; then no tensor needs to be.
int weight_sums_check_file(struct weight_sums *sums);

#endif
