// Reads and writes archives of NumPy arrays. SPDX-License-Identifier: MIT
#include "formats/containers/arrays.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define NAME_MAX_SIZE 64
#define PIECE         ((size_t)1 << 30) // bytes; zlib counts in 32 bits

int arrays_open(struct arrays *arrays, const char *path)
{
    *arrays = (struct arrays){.path = path};
    if (file_map(path, &arrays->file) < 0)
        return -1;
    if (zip_read_directory(&arrays->zip, arrays->file.data, arrays->file.size, true) == 0)
        return 0;
    file_unmap(&arrays->file);
    return error_prefix("%s", path);
}

void arrays_close(struct arrays *arrays)
{
    zip_free_directory(&arrays->zip);
    file_unmap(&arrays->file);
}

static const struct zip_member *find_array(const struct arrays *arrays, const char *name)
{
    char file[NAME_MAX_SIZE];
    const int size = snprintf(file, sizeof file, "%s.npy", name);
    return zip_find(&arrays->zip, file, (size_t)size);
}

bool arrays_have(const struct arrays *arrays, const char *name)
{
    return find_array(arrays, name);
}

static int array_error(const struct array *array, const char *reason)
{
    char name[ERROR_SHOWN_SIZE];
    return error_set(STATUS_DATA, "%s: %s: %s", array->arrays->path,
                     error_shown(array->member->name, array->member->name_size, name), reason);
}

static int inflate_bytes(struct array *array, uint8_t *to, size_t size)
{
    z_stream *z = array->inflate;
    z->next_out = to;
    z->avail_out = (uInt)size;
    while (z->avail_out) {
        const size_t used = (size_t)(z->next_in - array->member->data);
        const size_t left = array->member->packed - used;
        z->avail_in = (uInt)(left < PIECE ? left : PIECE);
        const int rc = inflate(z, Z_NO_FLUSH);
        if (rc != Z_OK && !(rc == Z_STREAM_END && z->avail_out == 0))
            return array_error(array, "its compressed data are damaged");
    }
    return 0;
}

static int read_bytes(struct array *array, uint8_t *to, size_t size)
{
    const struct zip_member *member = array->member;
    if (size > member->size - array->at)
        return array_error(array, "it ends within its header");
    for (size_t done = 0, n; done < size; done += n) {
        n = size - done < PIECE ? size - done : PIECE;
        if (!member->deflated)
            memcpy(to + done, member->data + array->at, n);
        else if (inflate_bytes(array, to + done, n) < 0)
            return -1;
        array->crc = (uint32_t)crc32_z(array->crc, to + done, n);
        array->at += n;
    }
    if (array->at == member->size && array->crc != member->crc)
        return array_error(array, "its checksum is wrong: the file is damaged");
    return 0;
}

// Reads the header, whose length stands in its first bytes.
static int read_npy_header(struct array *array)
{
    const size_t prefix = 12;
    uint8_t *bytes = malloc(NPY_HEADER_MAX);
    if (!bytes)
        return error_set(STATUS_INTERNAL, "out of memory");
    const size_t size = array->member->size < prefix ? array->member->size : prefix;
    int rc = read_bytes(array, bytes, size);
    size_t all = size;
    if (rc == 0 && size == prefix) {
        all = bytes[6] == 1 ? 10 + get_le(bytes + 8, 2) : 12 + get_le(bytes + 8, 4);
        all = all < prefix ? prefix : all;
        all = all < NPY_HEADER_MAX ? all : NPY_HEADER_MAX;
        all = all < array->member->size ? all : array->member->size;
        rc = read_bytes(array, bytes + prefix, all - prefix);
    }
    char name[ERROR_SHOWN_SIZE], text[128];
    if (rc == 0 && npy_parse_header(&array->npy, bytes, all) < 0)
        rc = error_prefix("%s: %s", array->arrays->path,
                          error_shown(array->member->name, array->member->name_size, name));
    const size_t wanted = array->npy.count * dtype_size(array->npy.dtype);
    if (rc == 0 && wanted != array->member->size - all) {
        shape_text(array->npy.shape, array->npy.rank, text, sizeof text);
        rc = error_set(STATUS_DATA, "%s: %s: expected %zu bytes of data (%s %s), found %zu",
                       array->arrays->path,
                       error_shown(array->member->name, array->member->name_size, name), wanted,
                       dtype_name(array->npy.dtype), text, array->member->size - all);
    }
    array->npy.data = NULL;
    free(bytes);
    return rc;
}

struct array *array_open(const struct arrays *arrays, const char *name)
{
    const struct zip_member *member = find_array(arrays, name);
    if (!member) {
        error_set(STATUS_DATA, "%s: expected an array %s, found none", arrays->path, name);
        return NULL;
    }
    struct array *array = mem_new(1, sizeof *array);
    if (!array)
        return NULL;
    *array = (struct array){.arrays = arrays, .member = member};
    int rc = 0;
    if (member->deflated) {
        array->inflate = mem_new(1, sizeof *array->inflate);
        rc = array->inflate ? 0 : -1;
        if (rc == 0) {
            array->inflate->next_in = (z_const Bytef *)member->data;
            if (inflateInit2(array->inflate, -MAX_WBITS) != Z_OK)
                rc = error_set(STATUS_INTERNAL, "out of memory");
        }
    }
    if (rc < 0 || read_npy_header(array) < 0) {
        array_close(array);
        return NULL;
    }
    return array;
}

struct array *array_expect(const struct arrays *arrays, const char *name, enum dtype dtype,
                           const size_t *shape, size_t rank)
{
    struct array *array = array_open(arrays, name);
    if (!array)
        return NULL;
    bool same = array->npy.dtype == dtype && array->npy.rank == rank;
    for (size_t i = 0; same && i < rank; i++)
        same = shape[i] == 0 || array->npy.shape[i] == shape[i];
    if (same)
        return array;
    char wanted[128], found[128];
    int used = 0;
    for (size_t i = 0; i < rank; i++)
        used += snprintf(wanted + used, sizeof wanted - (size_t)used, shape[i] ? "%s%zu" : "%sN",
                         i ? ", " : "", shape[i]);
    error_set(STATUS_DATA, "%s: expected %s of %s [%s], found %s %s", arrays->path, name,
              dtype_name(dtype), wanted, dtype_name(array->npy.dtype),
              shape_text(array->npy.shape, array->npy.rank, found, sizeof found));
    array_close(array);
    return NULL;
}

int array_read(struct array *array, void *to, size_t n)
{
    return read_bytes(array, to, n * dtype_size(array->npy.dtype));
}

void array_close(struct array *array)
{
    if (!array)
        return;
    if (array->inflate)
        inflateEnd(array->inflate);
    free(array->inflate);
    free(array);
}

int arrays_start(struct zip_writer *zip, const char *name, enum dtype dtype, const size_t *shape,
                 size_t rank)
{
    char file[NAME_MAX_SIZE];
    uint8_t header[NPY_HEADER_SIZE];
    snprintf(file, sizeof file, "%s.npy", name);
    npy_make_header(header, dtype, shape, rank);
    return zip_start(zip, file) < 0 || zip_write(zip, header, sizeof header) < 0 ? -1 : 0;
}
