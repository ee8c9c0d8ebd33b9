// Defines the activations of the backends that compute on the host: float32, or bfloat16 in the
// sources of the cpu backend that are compiled with ACT_BITS 16.
// SPDX-License-Identifier: MIT
//
// Only kernels/ref and kernels/cpu include this; all other code sees an opaque type.
#ifndef DIT_HOST_ACT_H
#define DIT_HOST_ACT_H

#include "kernels/ops.h"

#if defined ACT_BITS && ACT_BITS == 16
struct act {
    uint16_t v;
};
#else
struct act {
    float v;
};
#endif

// The device parameter of an operation that does not use it.
#define DEVICE struct device *device __attribute__((unused))

#endif
