// Finds the sets of a DiT's weights that a file holds: the averaged ones, and those of the last
// step. SPDX-License-Identifier: MIT
#ifndef DIT_DIT_SETS_H
#define DIT_DIT_SETS_H

#include <stdbool.h>

#include "formats/weights/naming.h"

#define DIT_PREFIX_SIZE 128
#define DIT_SETS_MAX    8

// The names of a set's tensors begin alike: "ema.", "state_dict.model.", or "" for bare names.
struct dit_sets {
    enum naming_style style;
    bool has_ema, has_model; // one of them at least; a single set is both
    char ema[DIT_PREFIX_SIZE], model[DIT_PREFIX_SIZE];
    // Averaged weights in a list, in the order of the model's parameters: the names up to the
    // number ("ema.shadow_params."); "" without any.
    char list[DIT_PREFIX_SIZE];
    // A tensor of averaged weights that can't be told to be a parameter; NULL without any. Then,
    // and if there is a list, has_ema is false.
    const char *unread;
    // The beginnings of all sets' names, NULL-terminated.
    char prefixes[DIT_SETS_MAX][DIT_PREFIX_SIZE];
    const char *others[DIT_SETS_MAX + 1];
};

// Any beginning will do. Sets are averaged if a word of it is "ema" (ema_model, state_dict_ema). -1
// with an error (65) if the file holds no DiT, or several sets of which none is meant.
int dit_sets_find(struct dit_sets *sets, const struct weights *weights);

#endif
