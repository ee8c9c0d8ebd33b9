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

// $DIT_CUDA_PLUGIN; empty: no plug-in is to be used. NULL: it is not set.
static const char *named_plugin(void)
{
    return getenv("DIT_CUDA_PLUGIN");
}

// The plug-in of the build or the installation that the program is of. False: there is none.
static bool find_plugin(char path[4096])
{
    char program[2048];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (named_plugin()) {
        snprintf(path, 4096, "%s", named_plugin());
        return *path;
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
    if (named_plugin())
        return *named_plugin();
    void *driver = find_plugin(path) ? dlopen(DRIVER, RTLD_LAZY) : NULL;
    if (driver)
        dlclose(driver);
    return driver;
}

int cuda_plugin_open(struct device *device, int index, const char *precision, char why[256])
{
    char path[4096];
    if (!find_plugin(path)) {
        snprintf(why, 256,
                 "there is no CUDA plug-in (" PLUGIN "); build with nvcc on the PATH, or use "
                 "--device cpu");
        return -1;
    }
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL); // never closed: CUDA is not made for that
    if (!plugin) {
        snprintf(why, 256, "the CUDA plug-in can't be loaded: %.200s", dlerror());
        return -1;
    }
    int (*open)(struct device *, int, const char *, char *);
    const char *(*interface)(size_t *);
    *(void **)&open = dlsym(plugin, "dit_cuda_open");
    *(void **)&interface = dlsym(plugin, "dit_cuda_interface");
    size_t own[CUDA_SIZES], its[CUDA_SIZES];
    if (!open || !interface || strcmp(interface(its), cuda_interface(own)) != 0 ||
        memcmp(its, own, sizeof own) != 0) {
        snprintf(why, 256, "the CUDA plug-in %.180s is of another build; make both again", path);
        return -1;
    }
    return open(device, index, precision, why);
}
