// The memory functions of the backends that compute on the host. SPDX-License-Identifier: MIT
#ifndef DIT_BACKEND_HOST_H
#define DIT_BACKEND_HOST_H

#include "kernels/device.h"

void *host_alloc(struct device *device, size_t bytes);
void host_release(struct device *device, void *memory);
void host_copy(struct device *device, void *to, const void *from, size_t bytes);
void host_zero(struct device *device, void *memory, size_t bytes);
void host_close(struct device *device);

// Initializes all members of such a backend except its name and operations:
//     const struct backend ref_backend = {.name = "ref", .ops = &ref_ops, HOST_MEMORY};
#define HOST_MEMORY                                                                               \
    .act_size = sizeof(float), .host_floats = true, .alloc = host_alloc, .release = host_release, \
    .upload = host_copy, .download = host_copy, .copy = host_copy, .zero = host_zero,             \
    .close = host_close

#endif
