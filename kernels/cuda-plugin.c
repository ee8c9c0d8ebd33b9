// Finds, loads and checks the CUDA plug-in. SPDX-License-Identifier: MIT
#include "kernels/cuda-plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "kernels/plugin.h"

#define VARIABLE "DIT_CUDA_PLUGIN"
#define PLUGIN   "dit-cuda.so"
#define DRIVER   "libcuda.so.1"

bool cuda_plugin_found(void)
{
    char path[PLUGIN_PATH];
    if (!plugin_find(VARIABLE, PLUGIN, path))
        return false;
    if (getenv(VARIABLE))
        return true;
    void *driver = dlopen(DRIVER, RTLD_LAZY);
    if (driver)
        dlclose(driver);
    return driver;
}

int cuda_plugin_open(struct device *device, int index, const char *precision, char why[256])
{
    char path[PLUGIN_PATH];
    if (!plugin_find(VARIABLE, PLUGIN, path)) {
        snprintf(why, 256,
                 "there is no CUDA plug-in (" PLUGIN "); build with nvcc on the PATH, or use "
                 "--device cpu");
        return -1;
    }
    void *plugin = plugin_load(path, "CUDA", RTLD_NOW | RTLD_LOCAL, why);
    if (!plugin) // an open plug-in is never closed, as CUDA does not support that
        return -1;
    int (*open)(struct device *, int, const char *, char *);
    const char *(*interface)(size_t *);
    *(void **)&open = dlsym(plugin, "dit_cuda_open");
    *(void **)&interface = dlsym(plugin, "dit_cuda_interface");
    size_t own[CUDA_SIZES], its[CUDA_SIZES];
    if (!open || !interface || strcmp(interface(its), cuda_interface(own)) != 0 ||
        memcmp(its, own, sizeof own) != 0) {
        snprintf(why, 256,
                 "the CUDA plug-in %.180s does not match this program; rebuild both with make",
                 path);
        return -1;
    }
    return open(device, index, precision, why);
}
