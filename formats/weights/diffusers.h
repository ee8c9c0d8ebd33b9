// The folders in which diffusers keeps a model. SPDX-License-Identifier: MIT
#ifndef DIT_DIFFUSERS_H
#define DIT_DIFFUSERS_H

#include <jansson.h>

// The file of weights that `path` means, malloc'd. Of a folder that is
// diffusion_pytorch_model.safetensors or .bin, in the folder itself or in its subfolder `part`
// ("transformer", "vae"); any other path means itself. NULL with an error.
char *diffusers_find(const char *path, const char *part);
// The config.json beside a file of weights; NULL if there is none, or if it is no JSON.
json_t *diffusers_config(const char *path);

#endif
