// Opens the CUDA backend, which is a shared object so that programs need no CUDA library.
// SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_PLUGIN_H
#define DIT_CUDA_PLUGIN_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

// The interface between a program and its plug-in, which must have been built with the same one:
// the sizes of the structs that they share, and the operations with their parameters.
#define CUDA_SIZES 8
static inline const char *cuda_interface(size_t sizes[CUDA_SIZES])
{
    sizes[0] = sizeof(struct device);
    sizes[1] = sizeof(struct backend);
    sizes[2] = sizeof(struct diffusion_terms);
    sizes[3] = sizeof(struct sampler_step);
    sizes[4] = sizeof(struct adamw);
    sizes[5] = sizeof(struct modulation);
    sizes[6] = sizeof(struct conv2d);
    sizes[7] = sizeof(struct flow_training);
    return ""
#define OP(name, cpu, params, args) #name #params "\n"
#include "kernels/ops.def"
#undef OP
        ;
}

// The plug-in exports two functions.
// Sets the device's backend, ops, state and description. precision: "bf16", "tf32", "f32", or NULL
// for the default. If there is no driver or no such GPU, or the GPU is too old, returns -1 with a
// message in why[256] that says what to do.
int dit_cuda_open(struct device *device, int index, const char *precision, char why[256]);
// Returns the cuda_interface that the plug-in was built with.
const char *dit_cuda_interface(size_t sizes[CUDA_SIZES]);

// Loads the plug-in, $DIT_CUDA_PLUGIN or the dit-cuda.so that plugin_find finds, and opens a GPU.
// If the variable is empty, there is no plug-in. -1 with a message in why.
int cuda_plugin_open(struct device *device, int index, const char *precision, char why[256]);
// Whether a plug-in exists and either $DIT_CUDA_PLUGIN names it or a driver is installed.
bool cuda_plugin_found(void);

#ifdef __cplusplus
}
#endif
#endif
