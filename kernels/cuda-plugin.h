// The CUDA backend lies in a shared object of its own, so that programs need no CUDA library.
// SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_PLUGIN_H
#define DIT_CUDA_PLUGIN_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

// What the plug-in exports.
// Fills in backend, ops, state and description. precision: "bf16", "tf32", "f32" or NULL. -1 with
// a message in why[256] that says what to do: no driver, no such GPU, one that is too old.
int dit_cuda_open(struct device *device, int index, const char *precision, char why[256]);
// sizeof(struct op_table), sizeof(struct backend), sizeof(struct device): those of another build
// differ.
void dit_cuda_sizes(size_t sizes[3]);

// Loads $DIT_CUDA_PLUGIN, else ../lib/dit-cuda.so beside the program's folder, and opens a GPU.
// -1 with a message in why.
int cuda_plugin_open(struct device *device, int index, const char *precision, char why[256]);
// Whether there is a plug-in, and a driver for it.
bool cuda_plugin_found(void);

#ifdef __cplusplus
}
#endif
#endif
