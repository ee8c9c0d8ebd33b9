// The declarations that the sources of the cpu backend share. They are compiled once for every
// instruction set, whose name is CPU_ISA: CPU_FN(linear) is avx2_linear, generic_linear or the
// like. SPDX-License-Identifier: MIT
#ifndef DIT_CPU_H
#define DIT_CPU_H

#include "kernels/host-act.h"
#include "lib/base/team.h"

#define CPU_PASTE_(a, b) a##_##b
#define CPU_PASTE(a, b)  CPU_PASTE_(a, b)
#define CPU_FN(name)     CPU_PASTE(CPU_ISA, name)

#define OP(name, cpu, params, args) void CPU_FN(name)(struct device * device OP_PARAMS params);
#include "kernels/ops.def"
#undef OP

// Activations are float32 here.
static inline float *floats(act *x)
{
    return (float *)x;
}
static inline const float *const_floats(const act *x)
{
    return (const float *)x;
}

// At least n floats of working memory, 64-byte aligned, with undefined contents. It belongs to the
// device, which grows it as needed, and may be used until the operation returns. NULL with the
// device's error set if there is no memory.
float *CPU_FN(scratch)(struct device *device, size_t n);

// The highest rate of float32 operations that all threads reach together, per second; see peak.c.
double CPU_FN(peak_flops)(struct device *device);

static inline size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t divide_up(size_t n, size_t divisor)
{
    return (n + divisor - 1) / divisor;
}

static inline size_t round_up(size_t n, size_t multiple)
{
    return divide_up(n, multiple) * multiple;
}

// The team for light work on n elements: the caller alone where waking others would take longer.
static inline struct team *team_of(const struct device *device, size_t n)
{
    return n < 16384 ? NULL : device->team;
}

// What a range of light work has at least: elements, or rows of n elements.
#define GRAIN ((size_t)4096)

static inline size_t rows_of_grain(size_t n)
{
    return divide_up(GRAIN, n);
}

#endif
