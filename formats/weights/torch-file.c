// Reads the zip archive of torch.save, and hands the older layout to torch-legacy.c.
// SPDX-License-Identifier: MIT
#include "formats/weights/torch-file.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

static bool is_zip(const uint8_t *bytes, size_t size)
{
    return size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0;
}

bool torch_is_file(const uint8_t *bytes, size_t size)
{
    return is_zip(bytes, size) || torch_legacy_matches(bytes, size);
}

bool torch_is_tar(const uint8_t *bytes, size_t size)
{
    static const char *const members[] = {"sys_info", "pickle", "storages", "tensors"};
    if (size < 512)
        return false;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (memcmp(bytes, members[i], strlen(members[i]) + 1) == 0)
            return true;
    return memcmp(bytes + 257, "ustar", 5) == 0;
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
    if (torch_storage_parse(id, storage, &part) < 0)
        return -1;
    if (storage->unsupported)
        return 0;
    if ((file->path ? find_in_zip(file, storage) : torch_legacy_find(&file->legacy, storage)) < 0)
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
    if (zip_read_directory(&file->zip, bytes, size, false) < 0)
        return -1;
    const struct zip_member *member = find_pickle(&file->zip, &folder);
    if (!member || !(file->path = mem_new(folder + strlen("data/") + TORCH_KEY_MAX, 1)))
        return -1;
    memcpy(file->path, member->name, folder);
    memcpy(file->path + folder, "data/", strlen("data/"));
    file->path_size = folder + strlen("data/");
    size_t start = (size_t)(member->data - bytes), end = start + member->size;
    if (check_byte_order(file) < 0 || pickle_read(&file->pickle, bytes, start, end) < 0)
        return -1;
    if (file->pickle.end != end)
        return error_set(STATUS_DATA,
                         "byte %zu: expected the end of data.pkl, found %zu bytes more",
                         file->pickle.end, end - file->pickle.end);
    return 0;
}

int torch_open(struct torch_file *file, const uint8_t *bytes, size_t size)
{
    *file = (struct torch_file){0};
    int rc = is_zip(bytes, size) ? read_zip(file, bytes, size)
                                 : torch_legacy_read(&file->legacy, &file->pickle, bytes, size);
    if (rc < 0)
        torch_close(file);
    return rc;
}

void torch_close(struct torch_file *file)
{
    pickle_free(&file->pickle);
    zip_free_directory(&file->zip);
    torch_legacy_free(&file->legacy);
    free(file->path);
    *file = (struct torch_file){0};
}
