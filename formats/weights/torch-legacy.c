// Reads the pickles in turn, then matches the storages behind them with those that tensors name.
// SPDX-License-Identifier: MIT
#include "formats/weights/torch-legacy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define MAGIC   "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" // an integer of 10 bytes
#define VERSION 1001

struct legacy_reader {
    const uint8_t *bytes;
    size_t at, size;
};

bool torch_legacy_matches(const uint8_t *bytes, size_t size)
{
    static const char magic[] = "\x8a\x0a" MAGIC; // the opcode LONG1, and 10 bytes
    return size >= 32 && bytes[0] == 0x80 && memmem(bytes, 32, magic, sizeof magic - 1);
}

static int compare_storage_keys(const void *pa, const void *pb)
{
    const struct torch_storage *a = pa, *b = pb;
    size_t size = a->key_size < b->key_size ? a->key_size : b->key_size;
    int order = memcmp(a->key, b->key, size);
    return order ? order : a->key_size < b->key_size ? -1 : a->key_size > b->key_size;
}

static struct torch_storage *find_storage(const struct torch_legacy *legacy,
                                          const struct torch_storage *key)
{
    return bsearch(key, legacy->storages, legacy->n_storages, sizeof *key, compare_storage_keys);
}

int torch_legacy_find(const struct torch_legacy *legacy, struct torch_storage *storage)
{
    const struct torch_storage *known = find_storage(legacy, storage);
    char key[ERROR_SHOWN_SIZE];
    if (!known || !known->data)
        return error_set(STATUS_DATA, "storage \"%s\" is not in the file",
                         error_shown(storage->key, storage->key_size, key));
    storage->data = known->data;
    return 0;
}

static int next_pickle(struct legacy_reader *reader, struct pickle *pickle)
{
    if (pickle_read(pickle, reader->bytes, reader->at, reader->size) < 0)
        return -1;
    reader->at = pickle->end;
    return 0;
}

static bool is_magic(const struct pickle_value *value)
{
    return value->type == PICKLE_INTEGER && value->size == strlen(MAGIC) &&
           !memcmp(value->text, MAGIC, value->size);
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

static int expect_pickle(struct legacy_reader *reader,
                         bool (*good)(const struct pickle_value *value), const char *expected)
{
    struct pickle pickle;
    size_t at = reader->at;
    if (next_pickle(reader, &pickle) < 0)
        return -1;
    bool found = good(&pickle.root);
    pickle_free(&pickle);
    return found ? 0 : error_set(STATUS_DATA, "byte %zu: expected %s", at, expected);
}

static int compare_storage_ids(const void *pa, const void *pb)
{
    const struct torch_storage *a = pa, *b = pb;
    int order = compare_storage_keys(a, b);
    if (order || a->count != b->count)
        return order ? order : a->count < b->count ? -1 : 1;
    return (int)a->dtype - (int)b->dtype;
}

// Only the ids of the tensors in the pickle tell the type of a storage.
static int list_storages(struct torch_legacy *legacy, const struct pickle *saved)
{
    const struct pickle_persistent *other;
    struct torch_part part;
    size_t n = 0;
    for (other = saved->others; other; other = other->next)
        n++;
    if (!(legacy->storages = mem_new(n, sizeof *legacy->storages)))
        return -1;
    for (other = saved->others; other; other = other->next) {
        if (other->id.type == PICKLE_TUPLE && other->id.size &&
            pickle_is_text(&other->id.items[0], "module"))
            continue;
        struct torch_storage *storage = &legacy->storages[legacy->n_storages++];
        char type[PICKLE_SHOWN_SIZE];
        if (torch_storage_parse(&other->id, storage, &part) < 0)
            return -1;
        if (storage->unsupported) // how many bytes it takes is not known
            return error_set(STATUS_DATA, "a storage's type %s is not supported",
                             pickle_shown(storage->unsupported, type));
    }
    qsort(legacy->storages, legacy->n_storages, sizeof *legacy->storages, compare_storage_ids);
    n = 0;
    for (size_t i = 0; i < legacy->n_storages; i++) {
        const struct torch_storage *storage = &legacy->storages[i];
        char key[ERROR_SHOWN_SIZE];
        if (n && compare_storage_ids(storage, &legacy->storages[n - 1]) == 0)
            continue;
        if (n && compare_storage_keys(storage, &legacy->storages[n - 1]) == 0)
            return error_set(STATUS_DATA,
                             "storage \"%s\" is said to be of different sizes or types",
                             error_shown(storage->key, storage->key_size, key));
        legacy->storages[n++] = *storage;
    }
    legacy->n_storages = n;
    return 0;
}

static int place_storage(struct torch_legacy *legacy, const struct pickle_value *key,
                         struct legacy_reader *reader)
{
    char text[ERROR_SHOWN_SIZE];
    struct torch_storage wanted = {.key = key->text, .key_size = key->size};
    struct torch_storage *storage = key->type == PICKLE_TEXT ? find_storage(legacy, &wanted) : NULL;
    if (!storage)
        return error_set(STATUS_DATA, "byte %zu: expected a storage that a tensor names",
                         reader->at);
    error_shown(key->text, key->size, text);
    if (storage->data)
        return error_set(STATUS_DATA, "byte %zu: storage \"%s\" a second time", reader->at, text);
    uint64_t count = 0;
    if (reader->size - reader->at < sizeof count)
        return error_set(STATUS_DATA, "byte %zu: expected storage \"%s\", found the end",
                         reader->at, text);
    count = get_le(reader->bytes + reader->at, sizeof count);
    size_t left = reader->size - reader->at - sizeof count, size;
    if (count != storage->count)
        return error_set(STATUS_DATA,
                         "byte %zu: expected %zu elements of storage \"%s\", found %" PRId64,
                         reader->at, storage->count, text, (int64_t)count);
    if (!size_mul(storage->count, dtype_size(storage->dtype), &size) || size > left)
        return error_set(STATUS_DATA,
                         "byte %zu: expected %zu elements of %s of storage \"%s\", found %zu bytes",
                         reader->at, storage->count, dtype_name(storage->dtype), text, left);
    storage->data = reader->bytes + reader->at + sizeof count;
    reader->at += sizeof count + size;
    return 0;
}

static int place_storages(struct torch_legacy *legacy, const struct pickle_value *keys,
                          struct legacy_reader *reader)
{
    if (keys->type != PICKLE_LIST)
        return error_set(STATUS_DATA, "byte %zu: expected the list of the storages before it",
                         reader->at);
    for (size_t i = 0; i < keys->list->n; i++)
        if (place_storage(legacy, &keys->list->items[i], reader) < 0)
            return -1;
    return reader->at == reader->size
               ? 0
               : error_set(STATUS_DATA, "byte %zu: expected the end after the last storage",
                           reader->at);
}

int torch_legacy_read(struct torch_legacy *legacy, struct pickle *saved, const uint8_t *bytes,
                      size_t size)
{
    struct legacy_reader reader = {bytes, 0, size};
    struct pickle keys;
    *legacy = (struct torch_legacy){0};
    *saved = (struct pickle){0};
    if (expect_pickle(&reader, is_magic, "PyTorch's magic number") < 0 ||
        expect_pickle(&reader, is_version, "version 1001 of PyTorch's older layout") < 0 ||
        expect_pickle(&reader, is_little_endian, "a system that is little-endian") < 0 ||
        next_pickle(&reader, saved) < 0 || list_storages(legacy, saved) < 0 ||
        next_pickle(&reader, &keys) < 0)
        return -1;
    int rc = place_storages(legacy, &keys.root, &reader);
    pickle_free(&keys);
    return rc;
}

void torch_legacy_free(struct torch_legacy *legacy)
{
    free(legacy->storages);
    *legacy = (struct torch_legacy){0};
}
