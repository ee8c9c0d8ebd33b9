// The folders in which diffusers keeps a model. SPDX-License-Identifier: MIT
#ifndef DIT_DIFFUSERS_H
#define DIT_DIFFUSERS_H

#include <jansson.h>

// Returns the path of a file of weights, malloc'd: what `path` means
// (weights-home.h); if that is a folder, diffusion_pytorch_model.safetensors or .bin there or in
// its subfolder `part` ("transformer", "vae"). It may also be the index of several files, and of
// the variant fp16. NULL with an error.
char *diffusers_find(const char *path, const char *part);
// Reads the config.json beside a file of weights, an object; NULL if there is none. -1 with an
// error if it is anything else.
int diffusers_config(const char *path, json_t **config);
// Lists the names of a model's classes that diffusers calls its id2label: those of the config.json
// beside the file of weights, or of the pipeline's model_index.json there or a folder above. NULL
// if they are not there, or not those of so many classes. -1 with an error if a file is broken.
int diffusers_classes(const char *path, const json_t *config, size_t classes, json_t **list);

#endif
