// The list that the readers of files fill with tensors and metadata. SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_LIST_H
#define DIT_WEIGHTS_LIST_H

#include <jansson.h>

#include "formats/weights/weight.h"

// These bound the memory that a file can take, far above what any model needs.
#define WEIGHTS_MAX           ((size_t)1 << 16)
#define WEIGHTS_NAME_MAX      1024
#define WEIGHTS_TEXT_SIZE_MAX ((size_t)100000000) // all names and metadata, as in safetensors

struct weights_list {
    size_t n;
    struct weight *all;
    char *names;         // one after another, each with its terminating 0
    size_t *by_name;     // indices sorted by name
    json_t *metadata;    // an object of strings; the reader makes it
    json_t *unsupported; // an object: the types of the tensors that can't be read; NULL without any
    // All that follows is private.
    size_t names_size;
    size_t text_size;
};

// Adds a tensor and copies its name of `size` bytes, without the words that wrappers of modules put
// in it (weights.h). Returns -1 with an error (65) if the name is
// empty, too long, not UTF-8, or holds control characters.
int weights_list_add(struct weights_list *list, struct weight weight, const char *name,
                     size_t size);
// The same for a tensor of a type that is not supported.
int weights_list_add_unsupported(struct weights_list *list, const char *name, size_t size,
                                 const char *type);
// Counts the text of metadata. Returns -1 with an error (65) once all texts take too much.
int weights_list_count_text(struct weights_list *list, size_t size);
// Sets the tensors' names and by_name. Returns -1 with an error (65) if two names are equal, or if
// no tensor can be read.
int weights_list_finish(struct weights_list *list);

// Sets by_name[n], indices sorted by name. Returns -1 with an error (65) if two names are equal.
int weights_list_sort(const struct weight *all, size_t n, size_t *by_name);

#endif
