// Builds the pickle in memory, since it precedes the tensors in the archive.
// SPDX-License-Identifier: MIT
#include "formats/weights/torch-write.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/zip-write.h"
#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define ALIGNMENT 64 // of the tensors' data
#define DEPTH_MAX 16

// The opcodes of protocol 2 that are needed. Readers don't require the memo, so it is left out.
enum opcode {
    OP_PROTO = 0x80,
    OP_STOP = '.',
    OP_MARK = '(',
    OP_NONE = 'N',
    OP_TRUE = 0x88,
    OP_FALSE = 0x89,
    OP_INT32 = 'J',
    OP_LONG = 0x8A,
    OP_FLOAT = 'G',
    OP_TEXT = 'X',
    OP_EMPTY_TUPLE = ')',
    OP_TUPLE = 't',
    OP_EMPTY_LIST = ']',
    OP_APPENDS = 'e',
    OP_EMPTY_DICT = '}',
    OP_SETITEMS = 'u',
    OP_GLOBAL = 'c',
    OP_REDUCE = 'R',
    OP_PERSISTENT = 'Q',
};

struct torch_writer {
    struct zip_writer *zip;
    uint8_t *pickle;
    size_t size;
    bool failed;
    size_t depth;
    enum torch_kind open[DEPTH_MAX];
    size_t n_tensors, n_written;
    size_t left;   // bytes of the started tensor that are still to come
    size_t *sizes; // of the tensors, in bytes
};

struct torch_writer *torch_new(struct output *output)
{
    struct torch_writer *torch = mem_new(1, sizeof *torch);
    if (torch && !(torch->zip = zip_new(output))) {
        free(torch);
        return NULL;
    }
    if (torch)
        zip_align(torch->zip, ALIGNMENT);
    return torch;
}

void torch_free(struct torch_writer *torch)
{
    if (!torch)
        return;
    zip_free(torch->zip);
    free(torch->pickle);
    free(torch->sizes);
    free(torch);
}

static void put_bytes(struct torch_writer *torch, const void *bytes, size_t size)
{
    if (torch->failed || size == 0)
        return;
    if (mem_grow(&torch->pickle, torch->size, size, 1) < 0) {
        torch->failed = true;
        return;
    }
    memcpy(torch->pickle + torch->size, bytes, size);
    torch->size += size;
}

static void put_op(struct torch_writer *torch, enum opcode opcode)
{
    put_bytes(torch, &(const uint8_t){(uint8_t)opcode}, 1);
}

static void put_little_endian(struct torch_writer *torch, uint64_t value, size_t bytes)
{
    uint8_t little[sizeof value];
    put_le(little, bytes, value);
    put_bytes(torch, little, bytes);
}

static void put_global(struct torch_writer *torch, const char *module, const char *name)
{
    put_op(torch, OP_GLOBAL);
    put_bytes(torch, module, strlen(module));
    put_bytes(torch, "\n", 1);
    put_bytes(torch, name, strlen(name));
    put_bytes(torch, "\n", 1);
}

static void put_ordered_dict(struct torch_writer *torch)
{
    put_global(torch, "collections", "OrderedDict");
    put_op(torch, OP_EMPTY_TUPLE);
    put_op(torch, OP_REDUCE);
}

void torch_begin(struct torch_writer *torch, enum torch_kind kind)
{
    assert(torch->depth < DEPTH_MAX);
    torch->open[torch->depth++] = kind;
    if (kind == TORCH_DICT)
        put_op(torch, OP_EMPTY_DICT);
    else if (kind == TORCH_ORDERED_DICT)
        put_ordered_dict(torch);
    else if (kind == TORCH_LIST)
        put_op(torch, OP_EMPTY_LIST);
    put_op(torch, OP_MARK);
}

void torch_end(struct torch_writer *torch)
{
    assert(torch->depth > 0);
    enum torch_kind kind = torch->open[--torch->depth];
    put_op(torch, kind == TORCH_TUPLE ? OP_TUPLE : kind == TORCH_LIST ? OP_APPENDS : OP_SETITEMS);
}

void torch_none(struct torch_writer *torch)
{
    put_op(torch, OP_NONE);
}

void torch_bool(struct torch_writer *torch, bool value)
{
    put_op(torch, value ? OP_TRUE : OP_FALSE);
}

void torch_integer(struct torch_writer *torch, int64_t value)
{
    bool small = value >= INT32_MIN && value <= INT32_MAX;
    put_op(torch, small ? OP_INT32 : OP_LONG);
    if (!small)
        put_little_endian(torch, sizeof value, 1);
    put_little_endian(torch, (uint64_t)value, small ? 4 : sizeof value);
}

void torch_real(struct torch_writer *torch, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_op(torch, OP_FLOAT);
    put_little_endian(torch, __builtin_bswap64(bits), sizeof bits);
}

void torch_text(struct torch_writer *torch, const char *text)
{
    size_t length = strlen(text);
    assert(length <= UINT32_MAX);
    put_op(torch, OP_TEXT);
    put_little_endian(torch, length, 4);
    put_bytes(torch, text, length);
}

static void put_sizes(struct torch_writer *torch, const size_t *sizes, size_t n)
{
    torch_begin(torch, TORCH_TUPLE);
    for (size_t i = 0; i < n; i++)
        torch_integer(torch, (int64_t)sizes[i]);
    torch_end(torch);
}

// Remembers the tensor's size in bytes. Its index is the key of its storage.
static void add_size(struct torch_writer *torch, size_t size)
{
    if (mem_grow(&torch->sizes, torch->n_tensors, 1, sizeof *torch->sizes) < 0)
        torch->failed = true;
    else
        torch->sizes[torch->n_tensors++] = size;
}

void torch_tensor(struct torch_writer *torch, enum dtype dtype, const size_t *shape, size_t rank)
{
    size_t count = 1, strides[TENSOR_RANK_MAX];
    char key[24];
    assert(rank <= TENSOR_RANK_MAX && dtype_torch_storage(dtype));
    for (size_t i = rank; i > 0; i--) {
        strides[i - 1] = count;
        count *= shape[i - 1];
    }
    snprintf(key, sizeof key, "%zu", torch->n_tensors);
    add_size(torch, count * dtype_size(dtype));

    put_global(torch, "torch._utils", "_rebuild_tensor_v2");
    torch_begin(torch, TORCH_TUPLE);
    torch_begin(torch, TORCH_TUPLE);
    torch_text(torch, "storage");
    put_global(torch, "torch", dtype_torch_storage(dtype));
    torch_text(torch, key);
    torch_text(torch, "cpu");
    torch_integer(torch, (int64_t)count);
    torch_end(torch);
    put_op(torch, OP_PERSISTENT);
    torch_integer(torch, 0); // the offset in the storage
    put_sizes(torch, shape, rank);
    put_sizes(torch, strides, rank);
    torch_bool(torch, false); // requires_grad
    put_ordered_dict(torch);  // backward hooks
    torch_end(torch);
    put_op(torch, OP_REDUCE);
}

static int add_member(struct torch_writer *torch, const char *name, const void *data, size_t size)
{
    if (zip_start(torch->zip, name) < 0 || zip_write(torch->zip, data, size) < 0)
        return -1;
    return zip_end(torch->zip);
}

int torch_end_value(struct torch_writer *torch)
{
    assert(torch->depth == 0);
    put_op(torch, OP_STOP);
    if (torch->failed)
        return error_set(STATUS_INTERNAL, "no memory for the list of tensors");
    const uint8_t start[] = {OP_PROTO, 2};
    const char byte_order[] = "little";
    if (zip_start(torch->zip, "archive/data.pkl") < 0 ||
        zip_write(torch->zip, start, sizeof start) < 0 ||
        zip_write(torch->zip, torch->pickle, torch->size) < 0 || zip_end(torch->zip) < 0)
        return -1;
    return add_member(torch, "archive/byteorder", byte_order, strlen(byte_order));
}

int torch_start_data(struct torch_writer *torch)
{
    assert(torch->n_written < torch->n_tensors);
    char name[48];
    snprintf(name, sizeof name, "archive/data/%zu", torch->n_written);
    torch->left = torch->sizes[torch->n_written++];
    return zip_start(torch->zip, name);
}

int torch_write_data(struct torch_writer *torch, const void *data, size_t size)
{
    assert(size <= torch->left);
    torch->left -= size;
    return zip_write(torch->zip, data, size);
}

int torch_end_data(struct torch_writer *torch)
{
    assert(torch->left == 0);
    return zip_end(torch->zip);
}

int torch_finish(struct torch_writer *torch)
{
    const char version[] = "3\n"; // the first version of this layout
    assert(torch->n_written == torch->n_tensors);
    if (add_member(torch, "archive/version", version, strlen(version)) < 0)
        return -1;
    return zip_finish(torch->zip);
}
