// The ref backend, to which the others are compared: plain C, one thread, sums in double.
// SPDX-License-Identifier: MIT
#include "kernels/backend-host.h"
#include "kernels/ops.h"

const struct op_table ref_ops = {
#define OP(name, cpu, params, args) .name = ref_##name,
#include "kernels/ops.def"
#undef OP
};

const struct backend ref_backend = {
    .name = "ref", .ops = &ref_ops, HOST_MEMORY(sizeof(float), host_close)};
