// The parameters of a model: named tensors, all within one array. SPDX-License-Identifier: MIT
#ifndef DIT_LAYOUT_H
#define DIT_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

// Elements. Tensors begin at multiples of this, so that they are aligned for every backend.
#define LAYOUT_ALIGN 64

// A trained tensor and its place in the array, which holds floats or activations.
struct param {
    char name[64]; // the published weights' name
    size_t rank, shape[4];
    size_t offset, count; // in elements
};

struct layout {
    size_t n_params;
    struct param *params;
    size_t size; // elements of the array, with padding, which stays 0
    bool failed; // private
};

// Adds a tensor after the last one; if `aligned`, at a multiple of LAYOUT_ALIGN. Running out of
// memory is reported by layout_finish.
void layout_add(struct layout *layout, bool aligned, const char *name, size_t rank,
                const size_t *shape);
// Adds NAME.weight (O,I) and NAME.bias (O).
void layout_add_linear(struct layout *layout, const char *name, size_t O, size_t I);
// Ends the list. -1 with an error if a tensor could not be added.
int layout_finish(struct layout *layout);
void layout_free(struct layout *layout);
size_t layout_largest(const struct layout *layout); // elements of the largest tensor
const struct param *layout_find(const struct layout *layout, const char *name); // or NULL

#endif
