// The memory functions of the backends that compute on the host. SPDX-License-Identifier: MIT
#ifndef DIT_BACKEND_HOST_H
#define DIT_BACKEND_HOST_H

#include "kernels/device.h"

void *host_alloc(struct device *device, size_t bytes);
void host_release(struct device *device, void *memory);
void host_copy(struct device *device, void *to, const void *from, size_t bytes);
void host_zero(struct device *device, void *memory, size_t bytes);
void host_close(struct device *device);

// Initializes the members of such a backend that concern memory:
//     const struct backend ref_backend = {
//         .name = "ref", .ops = &ref_ops, HOST_MEMORY(sizeof(float), host_close)};
#define HOST_MEMORY(size, close_device)                                                    \
    .act_size = (size), .host_memory = true, .alloc = host_alloc, .release = host_release, \
    .upload = host_copy, .download = host_copy, .copy = host_copy, .zero = host_zero,      \
    .close = (close_device)

#endif
