// The checksums of a safetensors file in its own metadata, each zlib's CRC-32 in 8 hexadecimal
// digits. SPDX-License-Identifier: MIT
//
// `crc32` is that of the whole file, as it is with zeros in the place of these digits.
// `crc32_parts` is the sum of the header, with zeros in the place of it and of `crc32`, and then
// that of each tensor's data, in their order: so who reads some of the tensors need not read the
// others.
#ifndef DIT_CHECKSUM_H
#define DIT_CHECKSUM_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKSUM_KEY       "crc32"
#define CHECKSUM_PARTS_KEY "crc32_parts"
#define CHECKSUM_DIGITS    8

// These set the metadata's checksums to zeros, before the header is built: that of the file, those
// of the header and n tensors. -1 with an error.
int checksum_reserve(json_t *metadata);
int checksum_reserve_parts(json_t *metadata, size_t n);

// Where the digits stand in a header; 0 if it has none.
struct checksum_places {
    size_t whole;
    size_t parts; // of the header's sum, which those of the tensors follow
};
struct checksum_places checksum_find(const uint8_t *header, size_t size, size_t n);

// Adds bytes to a sum, which begins as 0.
uint32_t checksum_add(uint32_t sum, const void *data, size_t size);
// The sum of bytes whose sum is `first` and then `size` bytes whose sum is `second`.
uint32_t checksum_join(uint32_t first, uint32_t second, size_t size);
// Writes the sum of tensor i's data into a header.
void checksum_set_tensor(uint8_t *header, struct checksum_places places, size_t i, uint32_t sum);
// Writes the other sums, once those of the tensors are set. The data's size and sum are given.
void checksum_finish(uint8_t *header, size_t size, struct checksum_places places, uint32_t data_sum,
                     size_t data_size);

// Compare with what the header says, if it says it. -1 with an error (65). The last takes the bytes
// of the whole file.
int checksum_check_header(const uint8_t *header, size_t size, struct checksum_places places);
int checksum_check_tensor(const uint8_t *header, struct checksum_places places, size_t i,
                          const void *data, size_t size);
int checksum_check(const uint8_t *data, size_t size);

#endif
