// The checksum of a safetensors file in its own metadata: `crc32`, zlib's, in 8 hexadecimal digits,
// of the whole file as it is with zeros in their place. SPDX-License-Identifier: MIT
#ifndef DIT_CHECKSUM_H
#define DIT_CHECKSUM_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKSUM_KEY    "crc32"
#define CHECKSUM_DIGITS 8

// Sets the metadata's checksum to zeros, before the header is built. -1 with an error.
int checksum_reserve(json_t *metadata);
// The offset of the digits in a header; 0 if it has none.
size_t checksum_find(const uint8_t *header, size_t size);
// Adds bytes to a sum, which begins as 0.
uint32_t checksum_add(uint32_t sum, const void *data, size_t size);
void checksum_text(uint32_t sum, char text[CHECKSUM_DIGITS + 1]);
// Compares a whole file's bytes with its checksum, if it has one. -1 with an error (65).
int checksum_check(const uint8_t *data, size_t size);

#endif
