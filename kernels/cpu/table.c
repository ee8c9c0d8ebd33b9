// The cpu backend: its table of operations. SPDX-License-Identifier: MIT
#include "kernels/backend-host.h"
#include "kernels/cpu/cpu.h"

static const struct op_table table = {
#define CHOOSE_ACT(name)            CPU_FN(name)
#define CHOOSE_CPU(name)            ISA_FN(name)
#define CHOOSE_REF(name)            ref_##name
#define OP(name, cpu, params, args) .name = CHOOSE_##cpu(name),
#include "kernels/ops.def"
#undef OP
};

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const struct backend CPU_FN(backend) = {
#if ACT_BITS == 16
    .name = TEXT(CPU_ISA) ",bf16",
#else
    .name = TEXT(CPU_ISA),
#endif
    .ops = &table,
    HOST_MEMORY(sizeof(struct act), ISA_FN(close)),
    .peak_flops = CPU_FN(peak_flops),
};
