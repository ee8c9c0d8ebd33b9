// The declarations that the sources of the cpu backend share. SPDX-License-Identifier: MIT
//
// They are compiled once for every instruction set, CPU_ISA, and those that use activations for
// both of their types: with ACT_BITS 32 for float32, with 16 for bfloat16. CPU_FN(linear) is
// avx2_f32_linear, generic_bf16_linear or the like; ISA_FN(fill_normal), without activations, is
// avx2_fill_normal. An instruction set that adds nothing for float32 has no such functions of its
// own: then FLOAT_ISA names another, whose functions it takes.
#ifndef DIT_CPU_H
#define DIT_CPU_H

#include "kernels/host-act.h"
#include "lib/base/team.h"

#define CPU_PASTE_(a, b) a##_##b
#define CPU_PASTE(a, b)  CPU_PASTE_(a, b)
#define ISA_FN(name)     CPU_PASTE(FLOAT_ISA, name)

#ifdef ACT_BITS
#if ACT_BITS == 16
#define CPU_FN(name) CPU_PASTE(CPU_ISA, bf16_##name)
#else
#define CPU_FN(name) CPU_PASTE(CPU_ISA, f32_##name)
#endif
#define OP(name, cpu, params, args) void CPU_FN(name)(struct device * device OP_PARAMS params);
#include "kernels/ops.def"
#undef OP
#endif

#define OP(name, cpu, params, args) void ISA_FN(name)(struct device * device OP_PARAMS params);
#include "kernels/ops.def"
#undef OP

// At least n floats of working memory, 64-byte aligned, with undefined contents. It belongs to the
// device, which grows it as needed, and may be used until the operation returns. NULL with the
// device's error set if there is no memory.
float *ISA_FN(scratch)(struct device *device, size_t n);
// Closes a device: frees its working memory.
void ISA_FN(close)(struct device *device);

#ifdef ACT_BITS
// The highest rate of a product's operations that all threads reach together, per second; see
// peak.c.
double CPU_FN(peak_flops)(struct device *device);
#endif

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
