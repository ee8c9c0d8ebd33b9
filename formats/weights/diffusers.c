// Finds the files of a model in the folders of diffusers. SPDX-License-Identifier: MIT
#include "formats/weights/diffusers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/weights/download.h"
#include "formats/weights/weights-home.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mapping.h"
#include "lib/base/mem.h"

#define JSON_SIZE_MAX ((size_t)1 << 20) // of a config.json

static char *find_in_folder(const char *folder, const char *part)
{
    static const char *const endings[] = {"safetensors",
                                          "bin",
                                          "safetensors.index.json",
                                          "bin.index.json",
                                          "fp16.safetensors",
                                          "fp16.bin",
                                          "safetensors.index.fp16.json",
                                          "safetensors.fp16.index.json"};
    const size_t n = sizeof endings / sizeof *endings;
    for (size_t i = 0; i < 2 * n; i++) {
        char *file = mem_printf("%s/%s%sdiffusion_pytorch_model.%s", folder, i < n ? "" : part,
                                i < n ? "" : "/", endings[i % n]);
        if (!file || access(file, F_OK) == 0)
            return file;
        free(file);
    }
    error_set(STATUS_NO_INPUT,
              "%s: expected diffusion_pytorch_model.safetensors or .bin in this folder or its %s/",
              folder, part);
    return NULL;
}

char *diffusers_find(const char *path, const char *part)
{
    struct stat st;
    char *named = weights_home_find(path);
    if (!named || stat(named, &st) < 0 || !S_ISDIR(st.st_mode))
        return named; // opening it will say what is wrong, if anything
    char *file = find_in_folder(named, part);
    free(named);
    return file;
}

// Parses a file of JSON, an object; NULL if there is none. -1 with an error if it is anything else.
static int read_json(const char *path, json_t **object)
{
    struct mapping file;
    json_error_t wrong;
    char shown[ERROR_SHOWN_SIZE];
    *object = NULL;
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    if (file_map(path, &file) < 0)
        return -1;
    const char *instead = download_found_instead(file.data, file.size);
    int rc = 0;
    if (instead)
        rc = error_set(STATUS_DATA, "%s: expected JSON, found %s", path, instead);
    else if (file.size > JSON_SIZE_MAX)
        rc = error_set(STATUS_DATA, "%s: %zu bytes, expected at most %zu", path, file.size,
                       JSON_SIZE_MAX);
    else if (!(*object =
                   json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &wrong)))
        rc = error_set(STATUS_DATA, "%s: line %d: %s", path, wrong.line,
                       error_shown(wrong.text, strlen(wrong.text), shown));
    else if (!json_is_object(*object)) {
        json_decref(*object);
        *object = NULL;
        rc = error_set(STATUS_DATA, "%s: expected an object of JSON", path);
    }
    file_unmap(&file);
    return rc;
}

// Reads NAME in the folder of `path`.
static int read_beside(const char *path, const char *name, json_t **object)
{
    const char *slash = strrchr(path, '/');
    char *full = mem_printf("%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, name);
    int rc = full ? read_json(full, object) : -1;
    free(full);
    return rc;
}

int diffusers_config(const char *path, json_t **config)
{
    return read_beside(path, "config.json", config);
}

// The names of an id2label; NULL if one is missing.
static json_t *list_labels(const json_t *labels, size_t classes)
{
    json_t *list = json_object_size(labels) == classes ? json_array() : NULL;
    for (size_t i = 0; list && i < classes; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        json_t *name = json_object_get(labels, key);
        if (!json_is_string(name) || json_array_append(list, name) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

int diffusers_classes(const char *path, const json_t *config, size_t classes, json_t **list)
{
    static const char *const names[] = {"model_index.json", "../model_index.json"};
    *list = list_labels(json_object_get(config, "id2label"), classes);
    for (size_t i = 0; !*list && i < sizeof names / sizeof *names; i++) {
        json_t *pipeline;
        if (read_beside(path, names[i], &pipeline) < 0)
            return -1;
        *list = list_labels(json_object_get(pipeline, "id2label"), classes);
        json_decref(pipeline);
    }
    return 0;
}
