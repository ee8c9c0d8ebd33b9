// The CUDA backend lies in a shared object of its own, so that programs need no CUDA library.
// SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_PLUGIN_H
#define DIT_CUDA_PLUGIN_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

// What a program and its plug-in must agree on: the sizes of what they share, and the operations.
#define CUDA_SIZES 6
static inline const char *cuda_interface(size_t sizes[CUDA_SIZES])
{
    sizes[0] = sizeof(struct device);
    sizes[1] = sizeof(struct backend);
    sizes[2] = sizeof(struct diffusion_terms);
    sizes[3] = sizeof(struct sampler_step);
    sizes[4] = sizeof(struct adamw);
    sizes[5] = sizeof(struct modulation);
    return ""
#define OP(name, cpu, params, args) #name #params "\n"
#include "kernels/ops.def"
#undef OP
        ;
}

// What the plug-in exports.
// Fills in backend, ops, state and description. precision: "bf16", "tf32", "f32" or NULL. -1 with
// a message in why[256] that says what to do: no driver, no such GPU, one that is too old.
int dit_cuda_open(struct device *device, int index, const char *precision, char why[256]);
// cuda_interface of its build.
const char *dit_cuda_interface(size_t sizes[CUDA_SIZES]);

// Loads $DIT_CUDA_PLUGIN (empty: none), else dit-cuda.so as plugin_find finds it, and opens a GPU.
// -1 with a message in why.
int cuda_plugin_open(struct device *device, int index, const char *precision, char why[256]);
// Whether there is a plug-in that was named, or one with a driver for it.
bool cuda_plugin_found(void);

#ifdef __cplusplus
}
#endif
#endif
