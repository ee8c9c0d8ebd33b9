// Recognises files, and tells what their kinds have in common. SPDX-License-Identifier: MIT
#include "bin/dit-info/facts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/containers/arrays.h"
#include "formats/images/class-names.h"
#include "formats/weights/download.h"
#include "formats/weights/torch-file.h"
#include "formats/weights/weights-index.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

json_t *facts_tensor(const char *name, enum dtype dtype, const size_t *shape, size_t rank)
{
    json_t *sizes = json_array();
    for (size_t k = 0; k < rank; k++)
        json_array_append_new(sizes, json_integer((json_int_t)shape[k]));
    return json_pack("{s:s, s:s, s:o}", "name", name, "dtype", dtype_name(dtype), "shape", sizes);
}

static bool is_history(const char *key)
{
    return strncmp(key, "pg.", 3) == 0;
}

// Whether the names of the classes can be read.
static bool add_classes(json_t *facts, const json_t *metadata)
{
    json_t *names;
    if (class_names_parse(json_string_value(json_object_get(metadata, "classes")), &names) < 0)
        return false;
    for (size_t i = 0; i < json_array_size(names); i++)
        if (!json_is_string(json_array_get(names, i))) {
            json_decref(names);
            return false;
        }
    if (names)
        json_object_set_new(facts, "classes", names);
    return names;
}

void facts_add_metadata(json_t *facts, const json_t *metadata, bool (*known)(const char *key))
{
    json_t *rest = json_object(), *history = json_array(), *value;
    const char *key;
    char entry[32];
    const bool named = add_classes(facts, metadata);
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!known(key) && !is_history(key) && !(named && strcmp(key, "classes") == 0))
            json_object_set(rest, key, value);
    }
    for (size_t i = 0; i == json_array_size(history); i++) {
        snprintf(entry, sizeof entry, "pg.%zu", i);
        json_array_append(history, json_object_get(metadata, entry)); // refuses NULL
    }
    json_object_set_new(facts, "metadata", rest);
    json_object_set_new(facts, "history", history);
}

// The first bytes of a stream: a frame of zstd.
static bool is_stream(const struct mapping *file)
{
    return file->size >= 4 && memcmp(file->data, "\x28\xB5\x2F\xFD", 4) == 0;
}

static bool is_array_name(const struct zip_member *member)
{
    return member->name_size > 4 && memcmp(member->name + member->name_size - 4, ".npy", 4) == 0;
}

// Whether it is a zip archive of arrays alone; PyTorch's have no member of such a name.
static bool is_arrays(const struct mapping *file)
{
    struct zip_directory zip;
    bool all;
    if (file->size < 4 || memcmp(file->data, "PK\3\4", 4) != 0 ||
        zip_read_directory(&zip, file->data, file->size, true) < 0)
        return false;
    all = zip.n > 0;
    for (size_t i = 0; i < zip.n; i++)
        all = all && is_array_name(&zip.members[i]);
    zip_free_directory(&zip);
    return all;
}

static bool is_weights(const struct mapping *file)
{
    const uint8_t *bytes = file->data;
    const size_t size = file->size;
    return torch_is_file(bytes, size) || torch_is_tar(bytes, size) ||
           weights_index_matches(bytes, size) || download_found_instead(bytes, size) ||
           (size > 8 && bytes[8] == '{');
}

static json_t *facts_of_file(const char *path, bool check)
{
    struct mapping file;
    if (file_map(path, &file) < 0)
        return NULL;
    if (file.size == 0) {
        error_set(STATUS_DATA, "%s: the file is empty", path);
        return NULL;
    }
    json_t *(*facts)(const char *, bool) = is_stream(&file)    ? facts_of_stream
                                           : is_arrays(&file)  ? facts_of_arrays
                                           : is_weights(&file) ? facts_of_weights
                                                               : NULL;
    file_unmap(&file);
    if (facts)
        return facts(path, check);
    error_set(STATUS_DATA,
              "%s: expected a tensor stream, weights, arrays (.npz) or the folder of a training, "
              "found none of them",
              path);
    return NULL;
}

static json_t *facts_of_folder(const char *path, bool check)
{
    char *log = path_join(path, "log.jsonl"), *latest = path_join(path, "latest.safetensors");
    if (!log || !latest)
        tool_fail();
    const bool run = access(log, F_OK) == 0 || access(latest, F_OK) == 0;
    free(log);
    free(latest);
    json_t *facts = (run ? facts_of_run : facts_of_weights)(path, check);
    if (!facts && !run && error_status() == STATUS_NO_INPUT)
        error_set(STATUS_NO_INPUT, "%s, or the log.jsonl of a training", error_message());
    return facts;
}

json_t *facts_of(const char *path, bool check)
{
    struct stat st;
    if (strcmp(path, "-") == 0)
        return facts_of_stream(path, check);
    if (stat(path, &st) < 0) {
        error_set_errno(STATUS_NO_INPUT, "%s: cannot open", path);
        return NULL;
    }
    return S_ISDIR(st.st_mode)   ? facts_of_folder(path, check)
           : S_ISREG(st.st_mode) ? facts_of_file(path, check)
                                 : facts_of_stream(path, check);
}
