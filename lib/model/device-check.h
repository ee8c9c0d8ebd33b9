// Reports failures of a device as errors (lib/base/error.h). SPDX-License-Identifier: MIT
#ifndef DIT_DEVICE_CHECK_H
#define DIT_DEVICE_CHECK_H

#include "kernels/device.h"

// -1 with the device's error if one is set, else 0. Waits for all operations.
int device_check(struct device *device);

// Call this when device_alloc could not provide `bytes` in all. Returns -1 with the error "WHAT
// needs N GB, which DEVICE does not have; HINT" (without the hint if it is NULL), or with the
// device's error if there is one.
int device_lacks(struct device *device, size_t bytes, const char *hint, const char *what, ...)
    __attribute__((format(printf, 4, 5)));

#endif
