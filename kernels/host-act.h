// Defines the activations of the backends that compute on the host: float32.
// SPDX-License-Identifier: MIT
//
// Only kernels/ref and kernels/cpu include this; all other code sees an opaque type.
#ifndef DIT_HOST_ACT_H
#define DIT_HOST_ACT_H

#include "kernels/ops.h"

struct act {
    float v;
};

// The device parameter of an operation that does not use it.
#define DEVICE struct device *device __attribute__((unused))

#endif
