// Device memory laid out twice by the same code: first from address 0 to learn its size, then for
// good. SPDX-License-Identifier: MIT
#ifndef DIT_ARENA_H
#define DIT_ARENA_H

#include "kernels/device.h"

struct arena {
    uintptr_t next;
    size_t act_size;
};

static inline void *take(struct arena *arena, size_t bytes)
{
    void *at = (void *)arena->next;
    arena->next += (bytes + 255) / 256 * 256;
    return at;
}
static inline act *take_act(struct arena *arena, size_t n)
{
    return take(arena, n * arena->act_size);
}
static inline float *take_float(struct arena *arena, size_t n)
{
    return take(arena, n * sizeof(float));
}

#endif
