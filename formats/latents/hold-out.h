// Chooses records that are held out of training, by what they hold. SPDX-License-Identifier: MIT
//
// Each record has a key, a hash of the seed and of its tensors but for scalars such as the label,
// and those with the smallest keys are chosen. So the choice does not depend on the order of the
// records, and records of the same image are all chosen or none is.
//     for each record: hold_out_add(&held, hold_out_key(&held, schema, record));
//     hold_out_choose(&held, wanted);
//     if (hold_out_has(&held, hold_out_key(&held, schema, record))) ...
#ifndef DIT_HOLD_OUT_H
#define DIT_HOLD_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tstream/tstream.h"

// {.seed = seed} is empty.
struct hold_out {
    uint64_t seed;
    uint64_t n, *keys; // (n)
    uint64_t limit;    // the largest key that is chosen
    uint64_t chosen;   // records
};

// record: the values of all tensors, one after the other.
uint64_t hold_out_key(const struct hold_out *held, const struct schema *schema,
                      const uint8_t *record);
// Takes 8 bytes of memory for each record. -1 with an error.
int hold_out_add(struct hold_out *held, uint64_t key);
// Chooses so many records, 1 to n, and those that are the same as one of them.
void hold_out_choose(struct hold_out *held, uint64_t wanted);
bool hold_out_has(const struct hold_out *held, uint64_t key);
void hold_out_free(struct hold_out *held);

#endif
