// What both layouts of PyTorch's files say of a storage.
// SPDX-License-Identifier: MIT
#include "formats/weights/torch-storage.h"

#include "lib/base/error.h"

int torch_find_dtype(const struct pickle_value *global, enum dtype *dtype)
{
    for (*dtype = 0; *dtype < DTYPE_COUNT; ++*dtype)
        if (pickle_is_global(global, "torch", dtype_torch(*dtype)))
            return 0;
    return -1;
}

bool torch_is_type(const struct pickle_value *global)
{
    static const char *const modules[] = {"torch", "torch.cuda", "torch.storage"};
    for (size_t i = 0; global->type == PICKLE_GLOBAL && i < sizeof modules / sizeof *modules; i++)
        if (pickle_is_text(&global->items[0], modules[i]))
            return true;
    return false;
}

// Sets the storage's type, or says that it is not supported. -1, without an error, if it is no
// type.
static int find_storage_type(const struct pickle_value *global, struct torch_storage *storage)
{
    if (!torch_is_type(global))
        return -1;
    for (storage->dtype = 0; storage->dtype < DTYPE_COUNT; ++storage->dtype) {
        const char *name = dtype_torch_storage(storage->dtype);
        if (name && pickle_is_text(&global->items[1], name))
            return 0;
    }
    storage->dtype = DTYPE_U8; // an UntypedStorage holds bytes
    if (!pickle_is_text(&global->items[1], "UntypedStorage"))
        storage->unsupported = global;
    return 0;
}

static bool is_count(const struct pickle_value *value)
{
    return value->type == PICKLE_INT && value->integer >= 0;
}

static bool is_key(const struct pickle_value *value)
{
    return value->type == PICKLE_TEXT && value->size > 0 && value->size <= TORCH_KEY_MAX;
}

// The id is ('storage', class, key, location, count). The older layout adds None, or
// (key, start, count) for a part of the storage.
int torch_storage_parse(const struct pickle_value *id, struct torch_storage *storage,
                        struct torch_part *part)
{
    const struct pickle_value *items = id->items;
    char key[ERROR_SHOWN_SIZE], found[PICKLE_SHOWN_SIZE];
    if (id->type != PICKLE_TUPLE || id->size < 5 || id->size > 6 ||
        !pickle_is_text(&items[0], "storage") || !is_key(&items[2]) || !is_count(&items[4]))
        return error_set(STATUS_DATA, "expected a storage as 'storage', class, key, place and "
                                      "count, found another persistent id");
    *storage = (struct torch_storage){
        .key = items[2].text, .key_size = items[2].size, .count = (size_t)items[4].integer};
    *part = (struct torch_part){0, storage->count};
    error_shown(storage->key, storage->key_size, key);
    if (find_storage_type(&items[1], storage) < 0)
        return error_set(STATUS_DATA, "storage \"%s\": its type %s is not supported", key,
                         pickle_shown(&items[1], found));
    if (id->size == 5 || items[5].type == PICKLE_NONE)
        return 0;
    const struct pickle_value *view = items[5].items;
    if (items[5].type != PICKLE_TUPLE || items[5].size != 3 || !is_count(&view[1]) ||
        !is_count(&view[2]))
        return error_set(STATUS_DATA, "storage \"%s\": expected key, start and count of a part",
                         key);
    *part = (struct torch_part){(size_t)view[1].integer, (size_t)view[2].integer};
    if (part->start > storage->count || part->count > storage->count - part->start)
        return error_set(STATUS_DATA, "storage \"%s\": a part of %zu from %zu, it has %zu elements",
                         key, part->count, part->start, storage->count);
    return 0;
}
