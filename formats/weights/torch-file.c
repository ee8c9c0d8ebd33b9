// SPDX-License-Identifier: MIT
#include "formats/weights/torch-file.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define KEY_MAX 64

static const struct {
    const char *storage, *name; // of the class of storages and of the element type
    enum dtype dtype;
} dtypes[] = {
    {"DoubleStorage", "float64", DTYPE_F64},
    {"FloatStorage", "float32", DTYPE_F32},
    {"HalfStorage", "float16", DTYPE_F16},
    {"LongStorage", "int64", DTYPE_I64},
    {"BFloat16Storage", "bfloat16", DTYPE_BF16},
    {"IntStorage", "int32", DTYPE_I32},
    {"ShortStorage", "int16", DTYPE_I16},
    {"CharStorage", "int8", DTYPE_I8},
    {"UntypedStorage", "uint8", DTYPE_U8},
    {"ByteStorage", "uint8", DTYPE_U8},
    {"BoolStorage", "bool", DTYPE_BOOL},
    {"", "uint16", DTYPE_U16},
    {"", "uint32", DTYPE_U32},
    {"", "uint64", DTYPE_U64},
};

bool torch_is_zip(const uint8_t *bytes, size_t size)
{
    return size >= 4 && !memcmp(bytes, "PK\3\4", 4);
}

bool torch_is_legacy(const uint8_t *bytes, size_t size)
{
    static const char magic[] = "\x8a\x0a" TORCH_LEGACY_MAGIC; // LONG1, 10 bytes
    return size >= 32 && bytes[0] == 0x80 && memmem(bytes, 32, magic, sizeof magic - 1);
}

bool torch_is_tar(const uint8_t *bytes, size_t size)
{
    static const char *const members[] = {"sys_info", "pickle", "storages", "tensors"};
    if (size < 512)
        return false;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (!memcmp(bytes, members[i], strlen(members[i]) + 1))
            return true;
    return !memcmp(bytes + 257, "ustar", 5);
}

int torch_find_dtype(const struct pickle_value *global, enum dtype *dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (pickle_is_global(global, "torch", dtypes[i].name)) {
            *dtype = dtypes[i].dtype;
            return 0;
        }
    return -1;
}

static int find_storage_type(const struct pickle_value *global, enum dtype *dtype)
{
    static const char *const modules[] = {"torch", "torch.cuda", "torch.storage"};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        for (size_t k = 0; k < sizeof modules / sizeof *modules; k++)
            if (*dtypes[i].storage && pickle_is_global(global, modules[k], dtypes[i].storage)) {
                *dtype = dtypes[i].dtype;
                return 0;
            }
    return -1;
}

static bool is_count(const struct pickle_value *value)
{
    return value->type == PICKLE_INT && value->integer >= 0;
}

static bool is_key(const struct pickle_value *value)
{
    return value->type == PICKLE_TEXT && value->size > 0 && value->size <= KEY_MAX;
}

// ('storage', class, key, location, count), in the older layout also None or (key, start, count).
int torch_parse_storage(const struct pickle_value *id, struct torch_storage *storage,
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
    if (find_storage_type(&items[1], &storage->dtype))
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

static int find_in_zip(const struct torch_file *file, struct torch_storage *storage)
{
    char key[ERROR_SHOWN_SIZE];
    memcpy(file->path + file->path_size, storage->key, storage->key_size);
    const struct zip_member *member =
        zip_find(&file->zip, file->path, file->path_size + storage->key_size);
    error_shown(storage->key, storage->key_size, key);
    if (!member)
        return error_set(STATUS_DATA, "storage \"%s\" is not in the file", key);
    if (member->size / dtype_size(storage->dtype) != storage->count)
        return error_set(STATUS_DATA,
                         "storage \"%s\": expected %zu elements of %s, found %zu bytes", key,
                         storage->count, dtype_name(storage->dtype), member->size);
    storage->data = member->data;
    return 0;
}

int torch_find_storage(const struct torch_file *file, const struct pickle_value *id,
                       struct torch_storage *storage)
{
    struct torch_part part;
    if (torch_parse_storage(id, storage, &part) ||
        (file->path ? find_in_zip(file, storage) : torch_find_legacy(file, storage)))
        return -1;
    storage->data += part.start * dtype_size(storage->dtype);
    storage->count = part.count;
    return 0;
}

// The one member NAME/data.pkl or data.pkl; *folder is the size of "NAME/".
static const struct zip_member *find_pickle(const struct zip_directory *zip, size_t *folder)
{
    static const char name[] = "data.pkl";
    const size_t size = sizeof name - 1;
    const struct zip_member *found = NULL;
    for (size_t i = 0; i < zip->n; i++) {
        const struct zip_member *member = &zip->members[i];
        const char *slash = memchr(member->name, '/', member->name_size);
        size_t prefix = slash ? (size_t)(slash - member->name) + 1 : 0;
        if (member->name_size - prefix != size || memcmp(member->name + prefix, name, size) != 0)
            continue;
        if (found) {
            error_set(STATUS_DATA, "expected one data.pkl in the zip archive, found several");
            return NULL;
        }
        found = member;
        *folder = prefix;
    }
    if (!found)
        error_set(STATUS_DATA, "a zip archive without NAME/data.pkl, in which torch.save puts "
                               "what it saves");
    return found;
}

// Files without this record are little-endian.
static int check_byte_order(const struct torch_file *file)
{
    static const char name[] = "byteorder", little[] = "little";
    const size_t folder = file->path_size - strlen("data/");
    char found[ERROR_SHOWN_SIZE];
    memcpy(file->path + folder, name, sizeof name - 1);
    const struct zip_member *member = zip_find(&file->zip, file->path, folder + sizeof name - 1);
    memcpy(file->path + folder, "data/", strlen("data/"));
    if (member &&
        (member->size != sizeof little - 1 || memcmp(member->data, little, member->size) != 0))
        return error_set(STATUS_DATA, "expected little-endian data, its byteorder is \"%s\"",
                         error_shown((const char *)member->data, member->size, found));
    return 0;
}

static int read_zip(struct torch_file *file, const uint8_t *bytes, size_t size)
{
    size_t folder;
    if (zip_read_directory(&file->zip, bytes, size))
        return -1;
    const struct zip_member *member = find_pickle(&file->zip, &folder);
    if (!member || !(file->path = mem_new(folder + strlen("data/") + KEY_MAX, 1)))
        return -1;
    memcpy(file->path, member->name, folder);
    memcpy(file->path + folder, "data/", strlen("data/"));
    file->path_size = folder + strlen("data/");
    size_t start = (size_t)(member->data - bytes), end = start + member->size;
    if (check_byte_order(file) || pickle_read(&file->pickle, bytes, start, end))
        return -1;
    if (file->pickle.end != end)
        return error_set(STATUS_DATA,
                         "byte %zu: expected the end of data.pkl, found %zu bytes more",
                         file->pickle.end, end - file->pickle.end);
    return 0;
}

int torch_open_zip(struct torch_file *file, const uint8_t *bytes, size_t size)
{
    *file = (struct torch_file){0};
    if (read_zip(file, bytes, size) == 0)
        return 0;
    torch_close(file);
    return -1;
}

void torch_close(struct torch_file *file)
{
    pickle_free(&file->pickle);
    zip_free_directory(&file->zip);
    free(file->path);
    free(file->storages);
    *file = (struct torch_file){0};
}
