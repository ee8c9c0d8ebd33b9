// Asks the processor and the environment once: CPUID takes microseconds in a virtual machine.
// SPDX-License-Identifier: MIT
#include "lib/base/cpu.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"

// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, 14.3 and 15.2.
#define XCR0_YMM 0x06 // SSE and AVX
#define XCR0_ZMM 0xe6 // and the mask registers, the upper halves, the upper 16 registers
static const struct cpu_needs {
    enum cpu_isa isa; // the first that needs it
    const char *name;
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_1_eax;
    uint64_t xcr0;
} needs[] = {
    {CPU_AVX2, "AVX2", 0, 1u << 5, 0, 0},
    {CPU_AVX2, "FMA", 1u << 12, 0, 0, 0},
    {CPU_AVX2, "F16C", 1u << 29, 0, 0, 0},
    {CPU_AVX2, "a system that saves the registers of AVX", 1u << 27, 0, 0, XCR0_YMM},
    {CPU_AVX512, "AVX-512 F", 0, 1u << 16, 0, 0},
    {CPU_AVX512, "AVX-512 DQ", 0, 1u << 17, 0, 0},
    {CPU_AVX512, "AVX-512 CD", 0, 1u << 28, 0, 0},
    {CPU_AVX512, "AVX-512 BW", 0, 1u << 30, 0, 0},
    {CPU_AVX512, "AVX-512 VL", 0, 1u << 31, 0, 0},
    {CPU_AVX512, "a system that saves the registers of AVX-512", 0, 0, 0, XCR0_ZMM},
    {CPU_AVX512BF16, "AVX512_BF16", 0, 0, 1u << 5, 0},
};

const char *cpu_lacks(const struct cpu_features *features, enum cpu_isa isa)
{
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (needs[i].isa <= isa &&
            ((needs[i].leaf1_ecx & ~features->leaf1_ecx) ||
             (needs[i].leaf7_ebx & ~features->leaf7_ebx) ||
             (needs[i].leaf7_1_eax & ~features->leaf7_1_eax) || (needs[i].xcr0 & ~features->xcr0)))
            return needs[i].name;
    return NULL;
}

#ifdef __x86_64__
#include <cpuid.h>

static struct cpu_features ask_processor(void)
{
    struct cpu_features f = {0};
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d))
        f.leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        f.leaf7_ebx = b;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d))
        f.leaf7_1_eax = a;
    if (f.leaf1_ecx & 1u << 27) { // OSXSAVE: the system lets programs ask what it saves
        __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        f.xcr0 = (uint64_t)d << 32 | a;
    }
    return f;
}
#else
static struct cpu_features ask_processor(void)
{
    return (struct cpu_features){0};
}
#endif

static const char *const names[] = {"generic", "avx2", "avx512", "avx512bf16"};
enum { ISAS = sizeof names / sizeof *names };

// The index of DIT_CPU's value among the names; -1 if it is not set, ISAS if it is none of them.
static int find_limit(void)
{
    const char *value = getenv("DIT_CPU");
    int i = 0;
    if (!value)
        return -1;
    while (i < ISAS && strcmp(value, names[i]) != 0)
        i++;
    return i;
}

static enum cpu_isa choose_isa(void)
{
    const struct cpu_features features = ask_processor();
    const int limit = find_limit();
    if (limit >= 0 && limit < ISAS && !cpu_lacks(&features, (enum cpu_isa)limit))
        return (enum cpu_isa)limit;
    int best = ISAS - 1;
    while (cpu_lacks(&features, (enum cpu_isa)best))
        best--;
    return (enum cpu_isa)best;
}

enum cpu_isa cpu_isa(void)
{
    static atomic_int answer; // 1 + the choice; threads that ask at the same time store the same
    int known = atomic_load_explicit(&answer, memory_order_relaxed);
    if (known == 0) {
        known = 1 + (int)choose_isa();
        atomic_store_explicit(&answer, known, memory_order_relaxed);
    }
    return (enum cpu_isa)(known - 1);
}

int cpu_check(void)
{
    const struct cpu_features features = ask_processor();
    const int limit = find_limit();
    if (limit < 0)
        return 0;
    if (limit == ISAS)
        return error_set(STATUS_USAGE,
                         "DIT_CPU is '%s'; expected generic, avx2, avx512 or avx512bf16",
                         getenv("DIT_CPU"));
    const char *lacks = cpu_lacks(&features, (enum cpu_isa)limit);
    return lacks ? error_set(STATUS_USAGE, "DIT_CPU is %s, but this processor lacks %s",
                             names[limit], lacks)
                 : 0;
}
