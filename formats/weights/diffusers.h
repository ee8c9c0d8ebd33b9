// The folders in which diffusers keeps a model. SPDX-License-Identifier: MIT
#ifndef DIT_DIFFUSERS_H
#define DIT_DIFFUSERS_H

#include <jansson.h>

// The file of weights that `path` stands for, malloc'd: itself, or in a folder the
// diffusion_pytorch_model.safetensors or .bin there or in its part (transformer/, vae/). NULL with
// an error.
char *diffusers_find(const char *path, const char *part);
// The config.json beside a file of weights; NULL where there is none.
json_t *diffusers_config(const char *path);

#endif
