// Allocation with checked sizes. SPDX-License-Identifier: MIT
#ifndef DIT_MEM_H
#define DIT_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Sizes come from files, so every product and sum of sizes goes through these. False on overflow;
// *out is then unset.
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

// The next functions return memory to be freed with free(), or NULL with an error
// (STATUS_INTERNAL).
void *mem_new(size_t n, size_t size); // n elements of `size` bytes, zeroed
// An array with room for n elements; new ones are not zeroed. On failure the old array stays valid.
void *mem_resize(void *old, size_t n, size_t size);
char *mem_strdup(const char *s);
// printf into a new string.
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Makes room for `more` elements after the n that an array holds, at least doubling it when it is
// full. `array` is the address of the pointer to the array, which starts as NULL and is resized by
// mem_grow alone; new elements are not zeroed. On failure, -1 with an error, the array stays valid.
//     if (mem_grow(&list->names, list->n, 1, sizeof *list->names) < 0)
int mem_grow(void *array, size_t n, size_t more, size_t size);

// Memory available without swapping, in bytes, within the limits of the process's control groups;
// UINT64_MAX if unknown.
uint64_t mem_available(void);
// Memory that this process holds in all, in bytes; 0 if unknown.
uint64_t mem_resident(void);
// Keeps freed blocks of up to 16 MiB in the process, 512 MiB in all: fresh pages from the system
// cost as much time as filling them.
void mem_keep_freed(void);

#endif
