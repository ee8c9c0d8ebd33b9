// Allocation with checked sizes. SPDX-License-Identifier: MIT
#ifndef DIT_MEM_H
#define DIT_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Sizes come from files: every product goes through these. False on overflow; *out is then unset.
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

// NULL with an error set (STATUS_INTERNAL) when there is no memory. Zeroed; freed with free().
void *mem_new(size_t n, size_t size);
// Grows an array; the new part is not zeroed. On failure the old array stays valid.
void *mem_resize(void *old, size_t n, size_t size);
// Bytes that the system could give without harm to others; as if there were no end of them where it
// does not say.
uint64_t mem_available(void);
// Freed blocks of up to 16 MiB stay with the process, 512 MiB in all: fresh pages cost as much time
// as filling them.
void mem_keep_freed(void);
char *mem_strdup(const char *s);
// printf into a new string.
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
