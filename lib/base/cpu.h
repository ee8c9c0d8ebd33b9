// Tells which instructions the processor has. SPDX-License-Identifier: MIT
#ifndef DIT_CPU_H
#define DIT_CPU_H

#include <stdbool.h>

// AVX2 together with FMA and F16C (x86-64-v3), with registers that the system saves. False on
// other architectures. Cheap enough to be asked before each use.
bool cpu_has_avx2(void);

#endif
