// The index is JSON: {"weight_map": {TENSOR: FILE, ...}}. SPDX-License-Identifier: MIT
#include "formats/weights/weights-index.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define INDEX_SIZE_MAX ((size_t)16 << 20)
#define FILES_MAX      1000

// No safetensors file begins so: its header would be far too long.
bool weights_index_matches(const uint8_t *bytes, size_t size)
{
    return size >= 2 && bytes[0] == '{' && (size < 9 || bytes[8] != '{' || bytes[7]);
}

void weights_index_free(char **paths)
{
    for (size_t i = 0; paths && paths[i]; i++)
        free(paths[i]);
    free(paths);
}

// The set of the files' names, as the keys of an object. NULL with an error.
static json_t *collect_names(const json_t *map)
{
    json_t *names = json_object(), *value;
    const char *tensor;
    char shown[ERROR_SHOWN_SIZE];
    if (!names)
        error_set(STATUS_INTERNAL, "out of memory");
    json_object_foreach((json_t *)map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!names)
            break;
        if (!name || !*name || *name == '.' || strchr(name, '/'))
            error_set(STATUS_DATA,
                      "the index names \"%s\", expected the name of a file in its own folder",
                      error_shown(name ? name : "?", name ? strlen(name) : 1, shown));
        else if (json_object_size(names) == FILES_MAX && !json_object_get(names, name))
            error_set(STATUS_DATA, "the index names more than %d files", FILES_MAX);
        else if (json_object_set_new(names, name, json_true()) < 0)
            error_set(STATUS_INTERNAL, "out of memory");
        else
            continue;
        json_decref(names);
        names = NULL;
    }
    return names;
}

static char **make_paths(const char *index, const json_t *names)
{
    const char *slash = strrchr(index, '/'), *name;
    char **paths = mem_new(json_object_size(names) + 1, sizeof *paths);
    size_t n = 0;
    json_t *value;
    json_object_foreach((json_t *)names, name, value)
    {
        if (!paths)
            break;
        paths[n] = mem_printf("%.*s%s", slash ? (int)(slash - index) + 1 : 0, index, name);
        if (!paths[n++]) {
            weights_index_free(paths);
            paths = NULL;
        }
    }
    return paths;
}

char **weights_index_paths(const char *path, const uint8_t *bytes, size_t size)
{
    json_error_t wrong;
    char shown[ERROR_SHOWN_SIZE];
    if (size > INDEX_SIZE_MAX) {
        error_set(STATUS_DATA, "an index of %zu bytes, at most %zu", size, INDEX_SIZE_MAX);
        return NULL;
    }
    if (safetensors_check_values(bytes, size) < 0)
        return NULL;
    json_t *root = json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, &wrong);
    const json_t *map = json_object_get(root, "weight_map");
    json_t *names = NULL;
    char **paths = NULL;
    if (!root)
        error_set(STATUS_DATA, "not an index of weights: byte %d: %s", wrong.position,
                  error_shown(wrong.text, strlen(wrong.text), shown));
    else if (json_object_size(map) == 0)
        error_set(STATUS_DATA,
                  "expected weights or an index of them, found JSON without weight_map");
    else if ((names = collect_names(map)))
        paths = make_paths(path, names);
    json_decref(names);
    json_decref(root);
    return paths;
}
