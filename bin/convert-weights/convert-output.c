// Writes OUT in the format that its ending names. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "bin/convert-weights/convert.h"
#include "formats/weights/diffusers.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

// OUT may be this many times as large as IN, and any size up to this many bytes.
#define GROWTH_MAX 8
#define GROWTH_ANY (64 << 20)

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

// Counts the bytes that IN's tensors take in OUT, copies and all.
static double size_of_copies(const struct write_list *list)
{
    double size = 0;
    for (size_t i = 0; i < list->n; i++) {
        const struct write_entry *entry = &list->entries[i];
        double bytes = entry->n_parts ? (double)dtype_size(entry->dtype) : 0;
        for (size_t k = 0; k < entry->rank; k++)
            bytes *= (double)entry->shape[k];
        size += bytes;
    }
    return size;
}

int convert_write(const char *out, struct write_list *list, size_t in_size,
                  int (*write)(const struct write_list *list, struct output *output, void *user),
                  void *user)
{
    double size = size_of_copies(list);
    if (size > (double)in_size * GROWTH_MAX + GROWTH_ANY)
        return error_set(STATUS_DATA, "%s: its tensors would take %.0f MB, from a file of %.0f MB",
                         list->path, size / 1e6, (double)in_size / 1e6);
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

int convert_check_config(const char *out, const char *class_name)
{
    json_t *config;
    if (diffusers_config(out, &config) < 0)
        return -1;
    const char *found = json_string_value(json_object_get(config, "_class_name"));
    // Before diffusers 0.29 a DiT's was Transformer2DModel.
    bool same = !config || (found && *found && strstr(class_name, found));
    json_decref(config);
    return same ? 0
                : error_set(
                      STATUS_CANT_CREATE,
                      "the config.json beside %s is not that of a %s; write into another folder",
                      out, class_name);
}

int convert_write_config(const char *out, json_t *config)
{
    const char *slash = strrchr(out, '/');
    if (!file_is_regular(out)) {
        json_decref(config);
        return 0;
    }
    char *text = config ? json_dumps(config, JSON_INDENT(2)) : NULL;
    char *path = mem_printf("%.*sconfig.json", slash ? (int)(slash - out) + 1 : 0, out);
    json_decref(config);
    struct output *output = path && text ? output_open(path) : NULL;
    if (!text)
        error_set(STATUS_INTERNAL, "no memory for config.json");
    int rc = -1;
    if (output && output_write(output, text, strlen(text)) == 0 &&
        output_write(output, "\n", 1) == 0)
        rc = output_commit(output);
    else
        output_discard(output);
    free(text);
    free(path);
    return rc;
}
