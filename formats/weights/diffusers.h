// The folders in which diffusers keeps a model. SPDX-License-Identifier: MIT
#ifndef DIT_DIFFUSERS_H
#define DIT_DIFFUSERS_H

#include <jansson.h>

// Returns the path of a file of weights, malloc'd: if `path` is a folder,
// diffusion_pytorch_model.safetensors or .bin there or in its subfolder `part` ("transformer",
// "vae"), else `path` itself. NULL with an error.
char *diffusers_find(const char *path, const char *part);
// The config.json beside a file of weights; NULL if there is none, or if it is no JSON.
json_t *diffusers_config(const char *path);

#endif
