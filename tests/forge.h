// Builds PyTorch's files by hand, sound ones and broken ones. SPDX-License-Identifier: MIT
//
// Pickles are written in protocol 0, whose opcodes are text: S'..' is a string, I.. an integer,
// N None; ( is a mark, and t, d and l make a tuple, dict or list of what follows it; s sets a
// dict's key, a appends to a list; c is a class, R calls, b builds, Q is a persistent id; p0 and g0
// put into and get from the memo; . ends.
#ifndef DIT_FORGE_H
#define DIT_FORGE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/mem.h"

#define FORGE_ID(type, key, count) "(S'storage'\nc" type "\nS'" key "'\nS'cpu'\nI" count "\ntQ"
// A float32 tensor: shape and strides like "I2\nI3\n".
#define FORGE_TENSOR(key, count, offset, shape, strides) \
    FORGE_TENSOR_OF(FORGE_ID("torch\nFloatStorage", key, count), offset, shape, strides)
#define FORGE_TENSOR_OF(id, offset, shape, strides)                               \
    "ctorch._utils\n_rebuild_tensor_v2\n(" id "I" offset "\n(" shape "t(" strides \
    "tI00\nccollections\nOrderedDict\n(tRtR"
// Sets a dict's key.
#define FORGE_ITEM(key, value) "S'" key "'\n" value "s"

struct forged {
    uint8_t *data;
    size_t size;
    size_t members, local[8], entry[8], directory; // offsets in a zip archive
};

static inline void forge_bytes(struct forged *file, const void *data, size_t size)
{
    if (mem_grow(&file->data, file->size, size, 1) < 0)
        exit(2);
    if (size)
        memcpy(file->data + file->size, data, size);
    file->size += size;
}

static inline void forge_text(struct forged *file, const char *text)
{
    forge_bytes(file, text, strlen(text));
}

static inline void forge_number(struct forged *file, size_t size, uint64_t value)
{
    for (; size > 0; size--, value >>= 8)
        forge_bytes(file, &(uint8_t){(uint8_t)value}, 1);
}

static inline void forge_patch(struct forged *file, size_t at, size_t size, uint64_t value)
{
    for (; size > 0; size--, value >>= 8)
        file->data[at++] = (uint8_t)value;
}

// 24 floats: 0, 1, 2, ...
static inline void forge_floats(struct forged *file)
{
    for (int i = 0; i < 24; i++)
        forge_bytes(file, &(float){(float)i}, sizeof(float));
}

// The fields that a local header and an entry of the directory have in common.
static inline void forge_common(struct forged *file, const char *name, size_t size)
{
    forge_number(file, 2, 0); // version
    forge_number(file, 2, 0); // flags
    forge_number(file, 2, 0); // stored
    forge_number(file, 4, 0); // time
    forge_number(file, 4, 0); // checksum
    forge_number(file, 4, size);
    forge_number(file, 4, size);
    forge_number(file, 2, strlen(name));
    forge_number(file, 2, 0); // extra
}

// Adds a member; forge_directory adds the directory after the last one.
static inline void forge_member(struct forged *file, const char *name, const void *data,
                                size_t size)
{
    file->local[file->members++] = file->size;
    forge_text(file, "PK\3\4");
    forge_common(file, name, size);
    forge_text(file, name);
    forge_bytes(file, data, size);
}

static inline void forge_directory(struct forged *file)
{
    file->directory = file->size;
    for (size_t i = 0; i < file->members; i++) {
        char name[256] = "";
        size_t length = file->data[file->local[i] + 26], size = 0;
        memcpy(&size, file->data + file->local[i] + 18, 4);
        memcpy(name, file->data + file->local[i] + 30, length);
        file->entry[i] = file->size;
        forge_text(file, "PK\1\2");
        forge_number(file, 2, 0);
        forge_common(file, name, size);
        forge_number(file, 8, 0); // comment, disk, attributes
        forge_number(file, 2, 0);
        forge_number(file, 4, file->local[i]);
        forge_text(file, name);
    }
    size_t size = file->size - file->directory;
    forge_text(file, "PK\5\6");
    forge_number(file, 4, 0);
    forge_number(file, 2, file->members);
    forge_number(file, 2, file->members);
    forge_number(file, 4, size);
    forge_number(file, 4, file->directory);
    forge_number(file, 2, 0);
}

// A zip archive with this pickle and a storage "0" of 24 floats.
static inline struct forged forge_zip(const void *pickle, size_t size)
{
    struct forged file = {0}, floats = {0};
    forge_floats(&floats);
    forge_member(&file, "a/data.pkl", pickle, size);
    forge_member(&file, "a/data/0", floats.data, floats.size);
    forge_member(&file, "a/version", "3\n", 2);
    forge_directory(&file);
    free(floats.data);
    return file;
}

// The same in PyTorch's layout before 1.6; `keys` is the pickled list of the storages' keys.
#define FORGE_MAGIC "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
static inline struct forged forge_legacy(const char *pickle, const char *keys)
{
    struct forged file = {0};
    forge_text(&file, FORGE_MAGIC "I1001\n.(dS'little_endian'\nI01\ns.");
    forge_text(&file, pickle);
    forge_text(&file, keys);
    forge_number(&file, 8, 24);
    forge_floats(&file);
    return file;
}

static inline void forge_write(const struct forged *file, const char *path)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0600);
    if (fd < 0 || write(fd, file->data, file->size) != (ssize_t)file->size)
        exit(2);
    close(fd);
}

#endif
