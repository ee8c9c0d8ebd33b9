// How the readers of files fill struct weights. SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_LIST_H
#define DIT_WEIGHTS_LIST_H

#include "formats/weights/weights.h"

// Bounds for memory, far above what any model has.
#define WEIGHTS_MAX           ((size_t)1 << 16)
#define WEIGHTS_NAME_MAX      1024
#define WEIGHTS_TEXT_SIZE_MAX ((size_t)32 << 20) // all names and metadata

struct weights_list {
    struct weights *weights;
    size_t names_size;
    size_t text_size;
};

// Adds a tensor; its name, of `size` bytes, is copied. -1 with an error (65) for a name that is
// empty, too long, not UTF-8, or holds control characters.
int weights_list_add(struct weights_list *list, struct weight weight, const char *name,
                     size_t size);
// Counts what metadata takes. -1 with an error (65) if that is too much.
int weights_list_count_text(struct weights_list *list, size_t size);
// Sets the names and sorts them. -1 with an error (65) if two tensors have the same.
int weights_list_finish(struct weights_list *list);

#endif
