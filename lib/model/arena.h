// Device memory for many arrays by one allocation: the same code lays them out twice, first from
// address 0 to find the size, then from the address that device_alloc returned.
// SPDX-License-Identifier: MIT
#ifndef DIT_ARENA_H
#define DIT_ARENA_H

#include "kernels/device.h"

#define ARENA_ALIGN 256 // bytes

struct arena {
    uintptr_t next;  // at the end: the first address plus the size
    size_t act_size; // bytes of an activation
};

static inline void *arena_take(struct arena *arena, size_t bytes)
{
    void *at = (void *)arena->next;
    arena->next += (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return at;
}
static inline act *arena_take_act(struct arena *arena, size_t n)
{
    return arena_take(arena, n * arena->act_size);
}
static inline float *arena_take_float(struct arena *arena, size_t n)
{
    return arena_take(arena, n * sizeof(float));
}

#endif
