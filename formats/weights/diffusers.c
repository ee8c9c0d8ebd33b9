// Finds the files of a model in the folders of diffusers. SPDX-License-Identifier: MIT
#include "formats/weights/diffusers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

char *diffusers_find(const char *path, const char *part)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return mem_strdup(path); // opening it will say what is wrong, if anything
    static const char *const endings[] = {"safetensors", "bin"};
    for (size_t i = 0; i < 4; i++) {
        char *file = mem_printf("%s/%s%sdiffusion_pytorch_model.%s", path, i < 2 ? "" : part,
                                i < 2 ? "" : "/", endings[i % 2]);
        if (!file || access(file, F_OK) == 0)
            return file;
        free(file);
    }
    error_set(STATUS_NO_INPUT,
              "%s: a folder without diffusion_pytorch_model.safetensors or .bin, also in %s/", path,
              part);
    return NULL;
}

json_t *diffusers_config(const char *path)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    char *name = mem_printf("%.*sconfig.json", folder, path);
    json_t *config = name ? json_load_file(name, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(name);
    return config;
}
