// Sorts the keys to find the largest one that is chosen. SPDX-License-Identifier: MIT
#include "formats/latents/hold-out.h"

#include <stdlib.h>

#include "lib/base/hash.h"
#include "lib/base/mem.h"

uint64_t hold_out_key(const struct hold_out *held, const struct schema *schema,
                      const uint8_t *record)
{
    uint64_t hash = hash_number(HASH_START, held->seed);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct field *field = &schema->fields[i];
        if (field->rank > 0 || schema->n_fields == 1)
            hash = hash_bytes(hash, record, field->size);
        record += field->size;
    }
    return hash_number(hash_number(hash, 0), 0); // so that the last bytes reach the upper bits
}

int hold_out_add(struct hold_out *held, uint64_t key)
{
    if (mem_grow(&held->keys, held->n, 1, sizeof *held->keys) < 0)
        return -1;
    held->keys[held->n++] = key;
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void hold_out_choose(struct hold_out *held, uint64_t wanted)
{
    qsort(held->keys, held->n, sizeof *held->keys, compare_keys);
    held->limit = held->keys[wanted - 1];
    held->chosen = wanted;
    while (held->chosen < held->n && held->keys[held->chosen] == held->limit)
        held->chosen++;
}

bool hold_out_has(const struct hold_out *held, uint64_t key)
{
    return held->chosen && key <= held->limit;
}

void hold_out_free(struct hold_out *held)
{
    free(held->keys);
    *held = (struct hold_out){0};
}
