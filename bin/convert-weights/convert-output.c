// Writes OUT in the format that its ending names. SPDX-License-Identifier: MIT
#include <string.h>

#include "bin/convert-weights/convert.h"
#include "lib/base/error.h"
#include "lib/tool/tool.h"

static const char *ending_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    return dot ? dot : "";
}

int convert_check_ending(const char *path)
{
    static const char *const endings[] = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (strcmp(ending_of(path), endings[i]) == 0)
            return 0;
    return error_set(STATUS_USAGE,
                     "%s: the ending names the format: expected .safetensors, or .pt, .pth, .bin "
                     "or .ckpt for PyTorch, found \"%s\"",
                     path, ending_of(path));
}

bool convert_is_torch(const char *path)
{
    return strcmp(ending_of(path), ".safetensors") != 0;
}

int convert_write(const char *out, struct write_list *list,
                  int (*write)(const struct write_list *list, struct output *output, void *user),
                  void *user)
{
    struct output *output = output_open(out);
    if (!output)
        return -1;
    list->progress = progress_add;
    progress_start("tensors", list->n);
    int rc = write(list, output, user);
    progress_finish();
    if (rc == 0)
        return output_commit(output);
    output_discard(output);
    return -1;
}
