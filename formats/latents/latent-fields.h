// The tensors of a stream of latents, named as in tstream(5). SPDX-License-Identifier: MIT
#ifndef DIT_LATENT_FIELDS_H
#define DIT_LATENT_FIELDS_H

#include "formats/tstream/tstream.h"

// Indexes of the tensors in a schema, or -1 if they are missing.
struct latent_fields {
    int mean;                // `latent_mean`; `latent` if there is no spread
    int std;                 // only if there is a spread
    int mean_flip, std_flip; // of the mirrored image
    size_t channels, height, width;
    size_t count; // values of one latent
};

// Finds the tensors. -1 with an error if there are no latents, or if their types or shapes are
// wrong or differ.
int latent_fields_find(const struct schema *schema, struct latent_fields *fields);
// Adds the tensors with a record's shape (C, h, w), and finds them.
int latent_fields_add(struct schema *schema, bool spread, bool flip, enum dtype dtype,
                      const size_t shape[3], struct latent_fields *fields);
// -1 with an error if a value is not finite or exceeds the type's range.
int latent_check(const float *values, size_t count, enum dtype dtype);
// Removes the tensors and the metadata that describes them.
void latent_fields_remove(struct schema *schema);

#endif
