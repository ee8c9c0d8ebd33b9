// What goes wrong on a device, as errors of the calls that see it. SPDX-License-Identifier: MIT
#ifndef DIT_DEVICE_CHECK_H
#define DIT_DEVICE_CHECK_H

#include "kernels/device.h"

// -1 with the device's error if one is set, else 0. Waits for what is running.
int device_check(struct device *device);

// After device_alloc has given none of `bytes` in all: returns -1 with the error "WHAT needs N GB,
// and DEVICE does not have them; WAY OUT" (NULL: without), or with what has stopped the device.
int device_lacks(struct device *device, size_t bytes, const char *way_out, const char *what, ...)
    __attribute__((format(printf, 4, 5)));

#endif
