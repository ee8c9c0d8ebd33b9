// Little-endian integers in bytes that need no alignment. SPDX-License-Identifier: MIT
#ifndef DIT_BYTES_H
#define DIT_BYTES_H

#include <stddef.h>
#include <stdint.h>

// The unsigned integer in bytes[size], size <= 8.
static inline uint64_t get_le(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;
    while (size > 0)
        value = value << 8 | bytes[--size];
    return value;
}

// Stores the low bytes of value into bytes[size], size <= 8.
static inline void put_le(uint8_t *bytes, size_t size, uint64_t value)
{
    for (size_t i = 0; i < size; i++, value >>= 8)
        bytes[i] = (uint8_t)value;
}

#endif
