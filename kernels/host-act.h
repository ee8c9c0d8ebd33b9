// The activations of the backends that compute on the host: float32. SPDX-License-Identifier: MIT
// Included by kernels/ref and kernels/cpu only; everyone else sees an opaque type.
#ifndef DIT_HOST_ACT_H
#define DIT_HOST_ACT_H

#include "kernels/ops.h"

struct act {
    float v;
};

// The device of an operation that needs nothing of it.
#define DEVICE struct device *device __attribute__((unused))

#endif
