// What weights and latents say of themselves, compared field by field wherever two of them meet.
// SPDX-License-Identifier: MIT
//
// Each comparison returns -1 with an error (65) that names the first field that differs, and what
// either says. What only one of the two says is no difference.
#ifndef DIT_DESCRIPTION_H
#define DIT_DESCRIPTION_H

#include <jansson.h>

#include "formats/latents/latents.h"
#include "formats/weights/dit-file.h"

struct description {
    const char *name;        // in messages: a file, or "the latents"
    struct dit_config sizes; // of the model, or of one for these latents
    const json_t *metadata;
};

struct description description_of_weights(const struct dit_file *file);
// The sizes that latents don't tell are those of `model`. -1 with an error if they are no squares.
int description_of_latents(struct description *description, const char *name,
                           const struct latents *latents, const struct dit_config *model);
// The classes' names, a list to be released by json_decref; NULL if it does not tell them. An empty
// list tells that there are no classes.
json_t *description_classes(const struct description *description);

int description_compare_sizes(const struct description *a, const struct description *b);
int description_compare_classes(const struct description *a, const struct description *b);
// The autoencoder and the scale of the latents.
int description_compare_autoencoders(const struct description *a, const struct description *b);
int description_compare(const struct description *a, const struct description *b); // all of these

#endif
