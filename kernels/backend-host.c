// SPDX-License-Identifier: MIT
#include "kernels/backend-host.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 // a cache line, and the widest vector

void *host_alloc(struct device *device, size_t bytes)
{
    (void)device;
    size_t padded;
    if (__builtin_add_overflow(bytes, ALIGNMENT, &padded))
        return NULL;
    padded -= padded % ALIGNMENT;
    void *memory = aligned_alloc(ALIGNMENT, padded);
    return memory ? memset(memory, 0, padded) : NULL;
}

void host_release(struct device *device, void *memory)
{
    (void)device;
    free(memory);
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
