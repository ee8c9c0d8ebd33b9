// The layout before PyTorch 1.6: five pickles (a magic number, a version, the system, what was
// saved, the keys of the storages), then every storage: a count of 64 bits and its elements.
// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/torch-file.h"
#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define VERSION 1001

struct input {
    const uint8_t *bytes;
    size_t at, size;
};

static int compare_keys(const void *pa, const void *pb)
{
    const struct torch_storage *a = pa, *b = pb;
    size_t size = a->key_size < b->key_size ? a->key_size : b->key_size;
    int order = memcmp(a->key, b->key, size);
    return order ? order : a->key_size < b->key_size ? -1 : a->key_size > b->key_size;
}

static struct torch_storage *find(const struct torch_file *file, const struct torch_storage *key)
{
    return bsearch(key, file->storages, file->n_storages, sizeof *key, compare_keys);
}

int torch_find_legacy(const struct torch_file *file, struct torch_storage *storage)
{
    const struct torch_storage *known = find(file, storage);
    char key[ERROR_SHOWN_SIZE];
    if (!known || !known->data)
        return error_set(STATUS_DATA, "storage \"%s\" is not in the file",
                         error_shown(storage->key, storage->key_size, key));
    storage->data = known->data;
    return 0;
}

static int next_pickle(struct input *input, struct pickle *pickle)
{
    if (pickle_read(pickle, input->bytes, input->at, input->size))
        return -1;
    input->at = pickle->end;
    return 0;
}

static bool is_magic(const struct pickle_value *value)
{
    return value->type == PICKLE_INTEGER && value->size == strlen(TORCH_LEGACY_MAGIC) &&
           !memcmp(value->text, TORCH_LEGACY_MAGIC, value->size);
}

static bool is_version(const struct pickle_value *value)
{
    return value->type == PICKLE_INT && value->integer == VERSION;
}

static bool is_little_endian(const struct pickle_value *value)
{
    bool little = false;
    if (value->type == PICKLE_DICT)
        for (size_t i = 0; i < value->list->n; i += 2)
            if (pickle_is_text(&value->list->items[i], "little_endian"))
                little = value->list->items[i + 1].type == PICKLE_BOOL &&
                         value->list->items[i + 1].truth;
    return little;
}

static int expect_pickle(struct input *input, bool (*good)(const struct pickle_value *value),
                         const char *expected)
{
    struct pickle pickle;
    size_t at = input->at;
    if (next_pickle(input, &pickle))
        return -1;
    bool found = good(&pickle.root);
    pickle_free(&pickle);
    return found ? 0 : error_set(STATUS_DATA, "byte %zu: expected %s", at, expected);
}

static int compare_storages(const void *pa, const void *pb)
{
    const struct torch_storage *a = pa, *b = pb;
    int order = compare_keys(a, b);
    if (order || a->count != b->count)
        return order ? order : a->count < b->count ? -1 : 1;
    return (int)a->dtype - (int)b->dtype;
}

// Only the ids of the tensors in the pickle say what type a storage is of.
static int list_storages(struct torch_file *file)
{
    const struct pickle_persistent *other;
    struct torch_part part;
    size_t n = 0;
    for (other = file->pickle.others; other; other = other->next)
        n++;
    if (!(file->storages = mem_new(n, sizeof *file->storages)))
        return -1;
    for (other = file->pickle.others; other; other = other->next) {
        if (other->id.type == PICKLE_TUPLE && other->id.size &&
            pickle_is_text(&other->id.items[0], "module"))
            continue;
        if (torch_parse_storage(&other->id, &file->storages[file->n_storages++], &part))
            return -1;
    }
    qsort(file->storages, file->n_storages, sizeof *file->storages, compare_storages);
    n = 0;
    for (size_t i = 0; i < file->n_storages; i++) {
        const struct torch_storage *storage = &file->storages[i];
        char key[ERROR_SHOWN_SIZE];
        if (n && compare_storages(storage, &file->storages[n - 1]) == 0)
            continue;
        if (n && compare_keys(storage, &file->storages[n - 1]) == 0)
            return error_set(STATUS_DATA,
                             "storage \"%s\" is said to be of different sizes or types",
                             error_shown(storage->key, storage->key_size, key));
        file->storages[n++] = *storage;
    }
    file->n_storages = n;
    return 0;
}

static int place_storage(struct torch_file *file, const struct pickle_value *key,
                         struct input *input)
{
    char text[ERROR_SHOWN_SIZE];
    struct torch_storage wanted = {.key = key->text, .key_size = key->size};
    struct torch_storage *storage = key->type == PICKLE_TEXT ? find(file, &wanted) : NULL;
    if (!storage)
        return error_set(STATUS_DATA, "byte %zu: expected a storage that a tensor names",
                         input->at);
    error_shown(key->text, key->size, text);
    if (storage->data)
        return error_set(STATUS_DATA, "byte %zu: storage \"%s\" a second time", input->at, text);
    uint64_t count = 0;
    if (input->size - input->at < sizeof count)
        return error_set(STATUS_DATA, "byte %zu: expected storage \"%s\", found the end", input->at,
                         text);
    count = get_le(input->bytes + input->at, sizeof count);
    size_t left = input->size - input->at - sizeof count, size;
    if (count != storage->count)
        return error_set(STATUS_DATA,
                         "byte %zu: expected %zu elements of storage \"%s\", found %" PRId64,
                         input->at, storage->count, text, (int64_t)count);
    if (!size_mul(storage->count, dtype_size(storage->dtype), &size) || size > left)
        return error_set(STATUS_DATA,
                         "byte %zu: expected %zu elements of %s of storage \"%s\", found %zu bytes",
                         input->at, storage->count, dtype_name(storage->dtype), text, left);
    storage->data = input->bytes + input->at + sizeof count;
    input->at += sizeof count + size;
    return 0;
}

static int place_storages(struct torch_file *file, const struct pickle_value *keys,
                          struct input *input)
{
    if (keys->type != PICKLE_LIST)
        return error_set(STATUS_DATA, "byte %zu: expected the list of the storages before it",
                         input->at);
    for (size_t i = 0; i < keys->list->n; i++)
        if (place_storage(file, &keys->list->items[i], input))
            return -1;
    return input->at == input->size
               ? 0
               : error_set(STATUS_DATA, "byte %zu: expected the end after the last storage",
                           input->at);
}

static int read_legacy(struct torch_file *file, struct input *input)
{
    struct pickle keys;
    if (expect_pickle(input, is_magic, "PyTorch's magic number") ||
        expect_pickle(input, is_version, "version 1001 of PyTorch's older layout") ||
        expect_pickle(input, is_little_endian, "a system that is little-endian") ||
        next_pickle(input, &file->pickle) || list_storages(file) || next_pickle(input, &keys))
        return -1;
    int rc = place_storages(file, &keys.root, input);
    pickle_free(&keys);
    return rc;
}

int torch_open_legacy(struct torch_file *file, const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, 0, size};
    *file = (struct torch_file){0};
    if (read_legacy(file, &input) == 0)
        return 0;
    torch_close(file);
    return -1;
}
