// Finds and loads shared objects. SPDX-License-Identifier: MIT
#include "kernels/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool plugin_find(const char *variable, const char *file, char path[PLUGIN_PATH])
{
    const char *named = getenv(variable);
    char program[PLUGIN_PATH / 2];
    if (named) {
        snprintf(path, PLUGIN_PATH, "%s", named);
        return *path;
    }
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return false;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    snprintf(path, PLUGIN_PATH, "%s/../lib/dit-tools/%s", program, file);
    if (access(path, R_OK) == 0)
        return true;
    snprintf(path, PLUGIN_PATH, PLUGIN_FOLDER "/%s", file);
    return access(path, R_OK) == 0;
}

void *plugin_load(const char *path, const char *what, int flags, char why[256])
{
    void *plugin = dlopen(path, flags);
    if (!plugin)
        snprintf(why, 256, "the %s plug-in can't be loaded: %.200s", what, dlerror());
    return plugin;
}
