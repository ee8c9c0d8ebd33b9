// The names under which files hold a model's parameters. SPDX-License-Identifier: MIT
// A model's layout (lib/model/layout.h) has one name for each parameter; other programs' files have
// others, or hold a parameter in parts. naming.c has the table.
#ifndef DIT_NAMING_H
#define DIT_NAMING_H

#include "formats/weights/weights.h"
#include "lib/model/layout.h"

enum naming_style {
    NAMING_OWN,           // the layouts': DiT as published, AutoencoderKL as diffusers has it now
    NAMING_DIT_DIFFUSERS, // diffusers' DiTTransformer2DModel
    NAMING_KL_OLD,        // diffusers' AutoencoderKL before 0.18: query, key, value, proj_attn
    NAMING_KL_LDM,        // the original latent-diffusion code
};

// A tensor of a file: rows of one of the model's parameters.
struct name_part {
    char name[96];
    size_t param;     // its index in the layout
    size_t row, rows; // of the parameter's first dimension
    size_t ones; // sizes of 1 that are written after its shape; when reading any number will do
};

struct naming {
    const struct layout *layout; // the caller's
    size_t n;
    struct name_part *parts; // in the layout's order; a parameter's parts together
};

// `blocks`: the depth of a DiT, the levels of an autoencoder. -1 with an error.
int naming_make(struct naming *naming, const struct layout *layout, enum naming_style style,
                size_t blocks);
void naming_free(struct naming *naming);
// The parts of parameter i are parts[*first .. *end - 1]; copies follow each other.
void naming_find_parts(const struct naming *naming, size_t i, size_t *first, size_t *end);
// The shape of a part; returns its rank.
size_t naming_part_shape(const struct naming *naming, const struct name_part *part,
                         size_t shape[TENSOR_RANK_MAX]);
// The (first) name in this style of a parameter, before there is a layout.
void naming_translate(enum naming_style style, const char *param, size_t blocks, char name[96]);

// A model's parameters in a file.
struct binding {
    const struct naming *naming;   // the caller's
    const struct weights *file;    // the caller's
    const struct weight **tensors; // of each part
};
// Finds PREFIX + name for each part. -1 with an error (65) that names what is missing, misshapen
// (with the shape that was expected), or extra: a tensor under the prefix that no part names and
// that begins with none of `ignored` (NULL-terminated; without the prefix).
int binding_make(struct binding *binding, const struct naming *naming, const struct weights *file,
                 const char *prefix, const char *const *ignored);
void binding_free(struct binding *binding);
// Parameter i as float32, values[count]. -1 with an error: no floats, or copies that differ.
int binding_read(const struct binding *binding, size_t i, float *values);
// Where parameter i lies in the file, if it can be used as it is (weight_in_place); else NULL.
const float *binding_in_place(const struct binding *binding, size_t i);

#endif
