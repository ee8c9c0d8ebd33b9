// Allocates, copies and frees memory for the backends that compute on the host.
// SPDX-License-Identifier: MIT
#include "kernels/backend-host.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 // bytes: a cache line, and the widest vector register

// calloc takes fresh pages from the system, which zeroes each when a thread first touches it, so
// that all threads share that work. The pointer that calloc returned is stored just before the
// aligned memory, where host_release finds it.
void *host_alloc(struct device *device, size_t bytes)
{
    (void)device;
    size_t padded;
    if (__builtin_add_overflow(bytes, 2 * ALIGNMENT, &padded))
        return NULL;
    char *base = calloc(1, padded);
    if (!base)
        return NULL;
    char *memory = base + 2 * ALIGNMENT - (uintptr_t)base % ALIGNMENT;
    memcpy(memory - sizeof base, &base, sizeof base);
    return memory;
}

void host_release(struct device *device, void *memory)
{
    (void)device;
    char *base = NULL;
    if (memory)
        memcpy(&base, (char *)memory - sizeof base, sizeof base);
    free(base);
}

void host_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy(to, from, bytes);
}

void host_zero(struct device *device, void *memory, size_t bytes)
{
    (void)device;
    if (bytes)
        memset(memory, 0, bytes);
}

void host_close(struct device *device)
{
    (void)device;
}
