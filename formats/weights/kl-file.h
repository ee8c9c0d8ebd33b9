// Files that hold the autoencoder of Stable Diffusion. SPDX-License-Identifier: MIT
#ifndef DIT_KL_FILE_H
#define DIT_KL_FILE_H

#include "formats/weights/naming.h"
#include "formats/weights/weights.h"
#include "lib/model/autoencoder-kl.h"

struct kl_file {
    char *path; // of the file itself; owned
    struct weights weights;
    struct kl_config config;
    enum naming_style style;
    struct layout layout;   // of both halves
    struct naming naming;   // of the layout
    struct binding binding; // of all its parameters
};

// Opens a file, or the file in a diffusers folder or its vae/, under any of the names in
// formats/weights/naming.h, at the file's root or behind "state_dict.", "first_stage_model.",
// "vae." or "module.". The sizes are read from the tensors' shapes; the scale is `scaling_factor`
// of the file's metadata or of the config.json beside it, else KL_SCALE. -1 with an error: 66 where
// it can't be opened, 65 for everything else.
int kl_file_open(struct kl_file *file, const char *path);
void kl_file_close(struct kl_file *file);

// The autoencoder of a file, opened as kl_file_open does, which is then closed again. Its name is
// the path's last part. NULL with an error.
struct autoencoder *kl_file_load(struct device *device, const char *path, enum kl_half half);

#endif
