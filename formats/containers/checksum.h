// A safetensors file's checksum, kept in its own metadata: `crc32`, 8 hexadecimal digits, is zlib's
// CRC-32 of the whole file with zeros in place of the digits. SPDX-License-Identifier: MIT
#ifndef DIT_CHECKSUM_H
#define DIT_CHECKSUM_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKSUM_KEY    "crc32"
#define CHECKSUM_DIGITS 8

// Adds a checksum of zeros to the metadata, before the header is built. -1 with an error.
int checksum_reserve(json_t *metadata);
// The offset of the digits in a header; 0 if there are none.
size_t checksum_find(const uint8_t *header, size_t size);
// The sum after these bytes. The first one starts from 0.
uint32_t checksum_add(uint32_t sum, const void *data, size_t size);
// Writes the digits, as text.
void checksum_text(uint32_t sum, char text[CHECKSUM_DIGITS + 1]);
// Checks a whole file's bytes against its checksum, if it has one. -1 with an error (65).
int checksum_check(const uint8_t *data, size_t size);

#endif
