// The tensors of a stream of latents (DESIGN section 2). SPDX-License-Identifier: MIT
#ifndef DIT_LATENT_FIELDS_H
#define DIT_LATENT_FIELDS_H

#include "formats/tstream/tstream.h"

// Their indexes in a schema, -1 for what is not there. std and std_flip come with spread alone.
struct latent_fields {
    int mean; // `latent_mean`, or `latent` without spread
    int std;
    int mean_flip, std_flip; // of the mirrored image
    size_t channels, height, width;
    size_t count; // values of one latent
};

// -1 with an error if there are no latents, or if their types or shapes don't fit each other.
int latent_fields_find(const struct schema *schema, struct latent_fields *fields);
// Adds the tensors and finds them.
int latent_fields_add(struct schema *schema, bool spread, bool flip, enum dtype dtype,
                      const size_t shape[3], struct latent_fields *fields);
// -1 with an error if one of the values is not finite, or more than the type can hold.
int latent_check(const float *values, size_t count, enum dtype dtype);
// Takes the tensors out, and the metadata that says what they mean.
void latent_fields_remove(struct schema *schema);

#endif
