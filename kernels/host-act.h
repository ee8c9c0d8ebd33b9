// The activations of the backends that compute on the host, which are float32.
// SPDX-License-Identifier: MIT Included by kernels/ref and kernels/cpu only; everyone else sees an
// opaque type.
#ifndef DIT_HOST_ACT_H
#define DIT_HOST_ACT_H

#include "kernels/ops.h"

struct act {
    float v;
};

// The device parameter of an operation that does not use it.
#define DEVICE struct device *device __attribute__((unused))

#endif
