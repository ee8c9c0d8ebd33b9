// The cpu backend's table and memory. SPDX-License-Identifier: MIT
#include "kernels/backend-host.h"
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

struct state {
    float *scratch;
    size_t scratch_size; // floats
};

float *CPU_FN(scratch)(struct device *device, size_t n)
{
    struct state *state = device->state;
    if (!state)
        state = device->state = calloc(1, sizeof *state);
    if (state && state->scratch_size >= n)
        return state->scratch;
    if (state) {
        free(state->scratch);
        n = round_up(n, 16);
        state->scratch =
            n <= SIZE_MAX / sizeof(float) ? aligned_alloc(64, n * sizeof(float)) : NULL;
        state->scratch_size = state->scratch ? n : 0;
    }
    if (!state || !state->scratch) {
        device_set_error(device, "out of memory for %zu floats of working memory", n);
        return NULL;
    }
    return state->scratch;
}

static void close_state(struct device *device)
{
    struct state *state = device->state;
    if (state)
        free(state->scratch);
    free(state);
}

static const struct op_table table = {
#define CHOOSE_CPU(name)            CPU_FN(name)
#define CHOOSE_REF(name)            ref_##name
#define OP(name, cpu, params, args) .name = CHOOSE_##cpu(name),
#include "kernels/ops.def"
#undef OP
};

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const struct backend CPU_FN(backend) = {
    .name = TEXT(CPU_ISA),
    .ops = &table,
    .act_size = sizeof(float),
    .host_floats = true,
    .alloc = host_alloc,
    .release = host_release,
    .upload = host_copy,
    .download = host_copy,
    .copy = host_copy,
    .zero = host_zero,
    .close = close_state,
    .peak_flops = CPU_FN(peak_flops),
};
