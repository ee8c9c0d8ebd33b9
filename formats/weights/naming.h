// Translates the names under which files hold a model's parameters. SPDX-License-Identifier: MIT
//
// A model's layout (lib/model/layout.h) has one name for each parameter. Files of other programs
// have other names, or hold a parameter in several tensors. naming.c has the table.
#ifndef DIT_NAMING_H
#define DIT_NAMING_H

#include "formats/weights/weights.h"
#include "lib/model/layout.h"

enum naming_style {
    NAMING_OWN,           // the layout's: DiT as published, AutoencoderKL as in today's diffusers
    NAMING_DIT_DIFFUSERS, // diffusers' DiTTransformer2DModel
    NAMING_KL_OLD,        // diffusers' AutoencoderKL before 0.18: query, key, value, proj_attn
    NAMING_KL_LDM,        // the original latent-diffusion code
};

// A tensor of a file: rows of one of the model's parameters.
struct name_part {
    char name[96];
    size_t param;     // its index in the layout
    size_t row, rows; // of the parameter's first dimension
    size_t ones;      // dimensions of size 1 written after its shape; a reader accepts any number
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
// Parameter i has parts[*first .. *end - 1]. Copies of the same rows follow each other.
void naming_find_parts(const struct naming *naming, size_t i, size_t *first, size_t *end);
// The shape of a part; returns its rank.
size_t naming_part_shape(const struct naming *naming, const struct name_part *part,
                         size_t shape[TENSOR_RANK_MAX]);
// The name in this style of a parameter, or of its first part; needs no layout.
void naming_translate(enum naming_style style, const char *param, size_t blocks, char name[96]);

// The tensors of a file that hold a model's parameters.
struct binding {
    const struct naming *naming;   // the caller's
    const struct weights *file;    // the caller's
    const struct weight **tensors; // of each part
};
// Finds the tensor PREFIX + name of each part. Returns -1 with an error (65) that names a tensor
// that is missing or has another shape than expected, or an extra one: it has the prefix, but then
// neither the name of a part nor a beginning in `ignored` (NULL-terminated).
int binding_make(struct binding *binding, const struct naming *naming, const struct weights *file,
                 const char *prefix, const char *const *ignored);
// The same for a state that an optimizer of PyTorch keeps: PREFIX + number + "." + kind, numbered
// in the file's order of the model's tensors, whose names begin with model_prefix.
int binding_number(struct binding *binding, const struct binding *model, const char *model_prefix,
                   const char *prefix, const char *kind);
// The same for a list of parameters, PREFIX + number, in the file's order of the model's tensors.
// The table of positions, which is not trained, may be among them, or not; NULL if the model has
// none.
int binding_list(struct binding *binding, const struct binding *model, const char *prefix,
                 const struct weight *positions);
void binding_free(struct binding *binding);
// Reads parameter i as float32 into values[param->count]. -1 with an error if a tensor holds no
// floats, or if copies differ.
int binding_read(const struct binding *binding, size_t i, float *values);
// Finds parameter i in the file itself, if it can be used there (weight_in_place); else sets NULL.
// -1 with an error if the tensor is damaged.
int binding_in_place(const struct binding *binding, size_t i, const float **values);

#endif
