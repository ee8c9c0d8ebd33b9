// The cpu backend: its table of operations and its working memory. SPDX-License-Identifier: MIT
#include "kernels/backend-host.h"
#include "kernels/cpu/cpu.h"

#include <stdint.h>
#include <stdlib.h>

#define ALIGNMENT 64

struct cpu_state {
    void *memory;        // as allocated
    float *scratch;      // the first aligned address in memory
    size_t scratch_size; // floats
};

float *CPU_FN(scratch)(struct device *device, size_t n)
{
    struct cpu_state *state = device->state;
    if (!state)
        state = device->state = calloc(1, sizeof *state);
    if (state && state->scratch_size >= n)
        return state->scratch;
    // realloc keeps the pages that the kernel has already provided.
    size_t bytes;
    void *memory = NULL;
    if (state && !__builtin_mul_overflow(n, sizeof(float), &bytes) &&
        !__builtin_add_overflow(bytes, ALIGNMENT, &bytes))
        memory = realloc(state->memory, bytes);
    if (!memory) {
        device_set_error(device, "out of memory for %zu floats of working memory", n);
        return NULL;
    }
    state->memory = memory;
    state->scratch = (float *)round_up((uintptr_t)memory, ALIGNMENT);
    state->scratch_size = n;
    return state->scratch;
}

static void cpu_close(struct device *device)
{
    struct cpu_state *state = device->state;
    if (state)
        free(state->memory);
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
    .close = cpu_close,
    .peak_flops = CPU_FN(peak_flops),
};
