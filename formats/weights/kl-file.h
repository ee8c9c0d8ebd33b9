// Opens files that hold the autoencoder of Stable Diffusion. SPDX-License-Identifier: MIT
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

// Opens a file, or the one in a folder of diffusers or its vae/. The tensors have any of the names
// in formats/weights/naming.h, with any words before them, such as "first_stage_model.". The sizes
// are read from the tensors' shapes. The scale is the `scaling_factor` of the file's metadata or of
// the config.json beside it, which must be whole, else KL_SCALE. Returns -1 with an error: 66 if
// the file can't be opened, 65 for everything else.
int kl_file_open(struct kl_file *file, const char *path);
void kl_file_close(struct kl_file *file);

// Loads `half` of the autoencoder in a file, and closes the file again. The autoencoder's name is
// the last part of the path. Returns NULL with an error, as kl_file_open.
struct autoencoder *kl_file_load(struct device *device, const char *path, enum kl_half half);

#endif
