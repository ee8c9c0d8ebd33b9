// The table of the operations of one precision. SPDX-License-Identifier: MIT
#include "kernels/cuda/backend.h"

extern const struct op_table CUDA_FN(ops);
const struct op_table CUDA_FN(ops) = {
#define OP(name, cpu, params, args) CUDA_FN(name),
#include "kernels/ops.def"
#undef OP
};
