// The folder of downloaded weights is one for all programs. pipelines/get-weights.sh fills it.
// SPDX-License-Identifier: MIT
#include "formats/weights/weights-home.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

static const char *const home_endings[] = {"", ".safetensors", ".pt", ".pth"};
enum { HOME_ENDINGS = sizeof home_endings / sizeof *home_endings };

static char *home_folder(void)
{
    const char *named = getenv("DIT_HOME"), *home = getenv("HOME");
    if (named && *named)
        return mem_strdup(named);
    return mem_printf("%s/.cache/dit-tools", home ? home : "");
}

// The length of a name without its ending, which get-weights.sh does not know.
static int bare_length(const char *name)
{
    size_t length = strlen(name);
    for (int i = 1; i < HOME_ENDINGS; i++) {
        size_t n = strlen(home_endings[i]);
        if (length > n && strcmp(name + length - n, home_endings[i]) == 0)
            return (int)(length - n);
    }
    return (int)length;
}

char *weights_home_find(const char *name)
{
    if (strchr(name, '/') || !*name || access(name, F_OK) == 0)
        return mem_strdup(name);
    char *folder = home_folder();
    if (!folder)
        return NULL;
    for (int i = 0; i < HOME_ENDINGS; i++) {
        char *path = mem_printf("%s/%s%s", folder, name, home_endings[i]);
        if (!path || access(path, F_OK) == 0) {
            free(folder);
            return path;
        }
        free(path);
    }
    error_set(STATUS_NO_INPUT,
              "%s: no such file, and no weights of this name in %s; published ones are fetched by "
              "\"get-weights.sh %.*s\"",
              name, folder, bare_length(name), name);
    free(folder);
    return NULL;
}
