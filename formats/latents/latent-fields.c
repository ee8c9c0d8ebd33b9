// Finds, adds and removes the tensors of latents in a schema. SPDX-License-Identifier: MIT
#include "formats/latents/latent-fields.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "lib/base/error.h"

static const char *const names[] = {"latent",      "latent_mean",      "latent_std",
                                    "latent_flip", "latent_mean_flip", "latent_std_flip"};
enum { LATENT, MEAN, STD, FLIP }; // FLIP + LATENT, ... are those of the mirrored image

// Finds a tensor; *index is -1 if it is missing. -1 with an error if its type is wrong, or its
// shape differs from that of the first one found.
static int find_latent(const struct schema *schema, const char *name, struct latent_fields *fields,
                       int *index)
{
    *index = schema_find(schema, name);
    if (*index < 0)
        return 0;
    const struct field *field = &schema->fields[*index];
    enum dtype dtype = field->dtype;
    if ((dtype != DTYPE_F16 && dtype != DTYPE_BF16 && dtype != DTYPE_F32) || field->rank != 3)
        return error_set(STATUS_DATA,
                         "tensor %s: expected F16, BF16 or F32 of rank 4, found %s of rank %zu",
                         name, dtype_name(dtype), field->rank + 1);
    const size_t *shape = field->shape;
    if (fields->count == 0) {
        fields->channels = shape[0], fields->height = shape[1], fields->width = shape[2];
        fields->count = field->count;
    }
    if (shape[0] != fields->channels || shape[1] != fields->height || shape[2] != fields->width ||
        field->count == 0) {
        char text[64];
        return error_set(STATUS_DATA, "tensor %s: expected latents of [%zu, %zu, %zu], found %s",
                         name, fields->channels, fields->height, fields->width,
                         shape_text(shape, 3, text, sizeof(text)));
    }
    return 0;
}

int latent_fields_find(const struct schema *schema, struct latent_fields *fields)
{
    bool spread = schema_find(schema, names[MEAN]) >= 0;
    int mean = spread ? MEAN : LATENT;
    *fields = (struct latent_fields){.std = -1, .std_flip = -1};
    if (find_latent(schema, names[mean], fields, &fields->mean) < 0 ||
        find_latent(schema, names[FLIP + mean], fields, &fields->mean_flip) < 0)
        return -1;
    if (spread && (find_latent(schema, names[STD], fields, &fields->std) < 0 ||
                   find_latent(schema, names[FLIP + STD], fields, &fields->std_flip) < 0))
        return -1;
    if (fields->mean < 0)
        return error_set(STATUS_DATA,
                         "expected a stream of latents, with the tensor latent or latent_mean, "
                         "found neither (kind %s)",
                         schema_get(schema, "kind") ? schema_get(schema, "kind") : "not stated");
    bool flips = fields->mean_flip >= 0;
    if (spread && fields->std < 0)
        return error_set(STATUS_DATA, "tensor latent_mean without latent_std");
    if (flips != (fields->std_flip >= 0) && spread)
        return error_set(STATUS_DATA, "tensor %s without %s", names[FLIP + (flips ? MEAN : STD)],
                         names[FLIP + (flips ? STD : MEAN)]);
    return 0;
}

int latent_fields_add(struct schema *schema, bool spread, bool flip, enum dtype dtype,
                      const size_t shape[3], struct latent_fields *fields)
{
    for (int i = 0; i <= (flip ? FLIP : 0); i += FLIP) {
        if (schema_add(schema, names[i + (spread ? MEAN : LATENT)], dtype, shape, 3) < 0 ||
            (spread && schema_add(schema, names[i + STD], dtype, shape, 3) < 0))
            return -1;
    }
    return latent_fields_find(schema, fields);
}

int latent_check(const float *values, size_t count, enum dtype dtype)
{
    const float limit = dtype == DTYPE_F16 ? 65504 : dtype == DTYPE_BF16 ? 0x1.FEp127f : FLT_MAX;
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(values[i]) <= limit)) // true for NaN, too
            return error_set(STATUS_DATA, "value %zu is %g, expected a finite %s", i, values[i],
                             dtype_name(dtype));
    return 0;
}

void latent_fields_remove(struct schema *schema)
{
    for (size_t i = 0; i < sizeof(names) / sizeof *names; i++)
        schema_remove(schema, names[i]);
    schema_set(schema, "autoencoder", NULL);
    schema_set(schema, "latent_scale", NULL);
}
