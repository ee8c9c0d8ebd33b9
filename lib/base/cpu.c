// Asks the processor once, as CPUID takes microseconds in a virtual machine.
// SPDX-License-Identifier: MIT
#include "lib/base/cpu.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <stdatomic.h>

// The compiler's built-in test also checks that the operating system saves the registers. Clang 14
// doesn't know "f16c" there, so that bit comes from CPUID's leaf 1.
static bool ask_avx2(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

bool cpu_has_avx2(void)
{
    enum { UNKNOWN, NO, YES };
    static atomic_int answer; // threads that ask at the same time store the same answer
    int known = atomic_load_explicit(&answer, memory_order_relaxed);
    if (known == UNKNOWN) {
        known = ask_avx2() ? YES : NO;
        atomic_store_explicit(&answer, known, memory_order_relaxed);
    }
    return known == YES;
}
#else
bool cpu_has_avx2(void)
{
    return false;
}
#endif
