// SPDX-License-Identifier: MIT
#include "kernels/cuda-plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/ops.h"

#define PLUGIN "dit-cuda.so"
#define DRIVER "libcuda.so.1"

// The plug-in of the build or the installation that the program is of. False: there is none.
static bool find_plugin(char path[4096])
{
    const char *named = getenv("DIT_CUDA_PLUGIN");
    char program[2048];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (named && *named) {
        snprintf(path, 4096, "%s", named);
        return true;
    }
    if (length < 0)
        return false;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    snprintf(path, 4096, "%s/../lib/" PLUGIN, program);
    return access(path, R_OK) == 0;
}

bool cuda_plugin_found(void)
{
    char path[4096];
    if (!find_plugin(path))
        return false;
    void *driver = getenv("DIT_CUDA_PLUGIN") ? NULL : dlopen(DRIVER, RTLD_LAZY);
    bool found = driver || getenv("DIT_CUDA_PLUGIN");
    if (driver)
        dlclose(driver);
    return found;
}

int cuda_plugin_open(struct device *device, int index, const char *precision, char why[256])
{
    char path[4096];
    if (!find_plugin(path)) {
        snprintf(why, 256,
                 "there is no CUDA plug-in (" PLUGIN "): build with nvcc on the PATH, or use "
                 "--device cpu");
        return -1;
    }
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL); // never closed: CUDA is not made for that
    int (*open)(struct device *, int, const char *, char *) = NULL;
    void (*ask_sizes)(size_t *) = NULL;
    if (plugin) {
        *(void **)&open = dlsym(plugin, "dit_cuda_open");
        *(void **)&ask_sizes = dlsym(plugin, "dit_cuda_sizes");
    }
    if (!open || !ask_sizes) {
        snprintf(why, 256, "the CUDA plug-in can't be loaded: %.180s", dlerror());
        return -1;
    }
    const size_t own[3] = {sizeof(struct op_table), sizeof(struct backend), sizeof(struct device)};
    size_t sizes[3];
    ask_sizes(sizes);
    if (memcmp(sizes, own, sizeof own) != 0) {
        snprintf(why, 256, "the CUDA plug-in %.150s is of another build; make both again", path);
        return -1;
    }
    return open(device, index, precision, why);
}
