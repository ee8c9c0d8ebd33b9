// A fast hash of bytes. It is not cryptographic: collisions are easy to construct.
// SPDX-License-Identifier: MIT
#ifndef DIT_HASH_H
#define DIT_HASH_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_START 0xCBF29CE484222325

// Continues `hash`, which starts as HASH_START, with these bytes. FNV-1a over 64-bit little-endian
// words; the upper half is folded into the lower one after each word.
static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    for (uint64_t word = 0; size; word = 0) {
        size_t n = size < sizeof word ? size : sizeof word;
        memcpy(&word, data, n);
        hash = (hash ^ le64toh(word)) * 0x100000001B3;
        hash ^= hash >> 32;
        data = (const char *)data + n;
        size -= n;
    }
    return hash;
}
static inline uint64_t hash_number(uint64_t hash, uint64_t number)
{
    return hash_bytes(hash, &(uint64_t){htole64(number)}, sizeof number);
}

#endif
