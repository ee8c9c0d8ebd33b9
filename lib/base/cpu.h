// Tells which instructions the processor has, and which of them to use.
// SPDX-License-Identifier: MIT
#ifndef DIT_CPU_H
#define DIT_CPU_H

#include <stdint.h>

enum cpu_isa {
    CPU_GENERIC,    // what every processor of the architecture has
    CPU_AVX2,       // AVX2 with FMA and F16C
    CPU_AVX512,     // AVX-512 F, BW, DQ, VL and CD as well
    CPU_AVX512BF16, // products of bfloat16 as well
};

// The instruction set to use: the best that the processor has and whose registers the system saves,
// or the one that the environment variable DIT_CPU names: generic, avx2, avx512 or avx512bf16.
// Cheap enough to be asked before each use. A DIT_CPU that cpu_check refuses has no effect.
enum cpu_isa cpu_isa(void);

// -1 with an error (STATUS_USAGE) if DIT_CPU has another value, or one that the processor lacks.
int cpu_check(void);

// What CPUID and XGETBV answer on x86-64; all 0 on other architectures.
struct cpu_features {
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_1_eax; // of leaf 7 also subleaf 1
    uint64_t xcr0;                              // the registers that the system saves
};

// The first thing that a processor with these features lacks for the instruction set; NULL if it
// has all.
const char *cpu_lacks(const struct cpu_features *features, enum cpu_isa isa);

#endif
