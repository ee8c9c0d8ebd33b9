// The working memory of the cpu backend. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"

#include <stdint.h>
#include <stdlib.h>

#define ALIGNMENT 64

struct cpu_state {
    void *memory;        // as allocated
    float *scratch;      // the first aligned address in memory
    size_t scratch_size; // floats
};

float *ISA_FN(scratch)(struct device *device, size_t n)
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

void ISA_FN(close)(struct device *device)
{
    struct cpu_state *state = device->state;
    if (state)
        free(state->memory);
    free(state);
}
