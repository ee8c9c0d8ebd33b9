// The parameters of a model: named tensors within one array. SPDX-License-Identifier: MIT
#ifndef DIT_LAYOUT_H
#define DIT_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

// Offsets are multiples of this many elements, so that every tensor is aligned for any backend.
#define LAYOUT_ALIGN 64

// A trained tensor and its place among the parameters, which are one array of floats or
// activations.
struct param {
    char name[64]; // as the published weights have it
    size_t rank, shape[4];
    size_t offset, count; // in elements
};

struct layout {
    size_t n_params;
    struct param *params;
    size_t size; // elements, with padding (which stays 0)
    bool failed; // private
};

// Adds a tensor after the last; on an aligned offset unless it is to follow without padding.
// Failing (no memory) is remembered for layout_finish.
void layout_add(struct layout *layout, bool aligned, const char *name, size_t rank,
                const size_t *shape);
// NAME.weight (O,I) and NAME.bias (O).
void layout_add_linear(struct layout *layout, const char *name, size_t O, size_t I);
// Ends the list. -1 with an error where something could not be added.
int layout_finish(struct layout *layout);
void layout_free(struct layout *layout);
size_t layout_largest(const struct layout *layout); // elements of the largest tensor
const struct param *layout_find(const struct layout *layout, const char *name); // or NULL

#endif
