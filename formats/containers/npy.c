// Parses .npy headers, Python dicts as text, by hand and strictly. SPDX-License-Identifier: MIT
#include "formats/containers/npy.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"

#define MAGIC      "\x93NUMPY"
#define MAGIC_SIZE (sizeof MAGIC - 1)

// The header while it is parsed.
struct npy_header {
    const uint8_t *file, *at, *end; // start of the file, next byte, end of the header
};

// Sets the error that something else was found; returns -1.
static int expected(const struct npy_header *h, const char *wanted)
{
    char found[20];
    size_t n = 0;
    for (const uint8_t *p = h->at; p < h->end && n < sizeof found - 1; p++)
        found[n++] = isprint(*p) ? (char)*p : '?';
    found[n] = 0;
    return error_set(STATUS_DATA, "byte %td: expected %s, found %s%s", h->at - h->file, wanted,
                     n ? "" : "the end of the header", found);
}

static void skip_blanks(struct npy_header *h)
{
    while (h->at < h->end && (*h->at == ' ' || *h->at == '\n'))
        h->at++;
}

// Skips the text if it comes next.
static bool accept_text(struct npy_header *h, const char *text)
{
    skip_blanks(h);
    size_t n = strlen(text);
    bool here = (size_t)(h->end - h->at) >= n && memcmp(h->at, text, n) == 0;
    h->at += here ? n : 0;
    return here;
}

// Reads a decimal number that fits into a size_t, if one comes next.
static bool accept_number(struct npy_header *h, size_t *number)
{
    skip_blanks(h);
    const uint8_t *start = h->at;
    for (*number = 0; h->at < h->end && isdigit(*h->at); h->at++)
        if (!size_mul(*number, 10, number) || !size_add(*number, *h->at - '0', number))
            return false;
    return h->at > start;
}

static int read_dtype(struct npy_header *h, struct npy *npy)
{
    for (npy->dtype = 0; npy->dtype < DTYPE_COUNT; npy->dtype++) {
        const char *descr = dtype_npy(npy->dtype);
        char quoted[8];
        snprintf(quoted, sizeof quoted, "'%s'", descr ? descr : "");
        if (descr && accept_text(h, quoted))
            return 0;
    }
    return expected(h, "the descr of little-endian floats or integers, such as '<f4'");
}

static int read_order(struct npy_header *h)
{
    return accept_text(h, "False") ? 0 : expected(h, "False, which is C order");
}

static int read_shape(struct npy_header *h, struct npy *npy)
{
    static const char wanted[] = "a shape of at most 8 sizes, such as (1, 4, 32, 32)";
    bool comma = true;
    if (!accept_text(h, "("))
        return expected(h, wanted);
    for (npy->rank = 0; !accept_text(h, ")"); npy->rank++) {
        if (!comma || npy->rank == TENSOR_RANK_MAX || !accept_number(h, &npy->shape[npy->rank]))
            return expected(h, wanted);
        comma = accept_text(h, ",");
    }
    return npy->rank != 1 || comma ? 0 : expected(h, "(N,), as Python writes one size");
}

static int read_dict(struct npy_header *h, struct npy *npy)
{
    enum { DTYPE = 1, ORDER = 2, SHAPE = 4, ALL = 7 };
    unsigned seen = 0;
    bool comma = true;
    if (!accept_text(h, "{"))
        return expected(h, "{");
    while (!accept_text(h, "}")) {
        unsigned key = accept_text(h, "'descr'")           ? DTYPE
                       : accept_text(h, "'fortran_order'") ? ORDER
                       : accept_text(h, "'shape'")         ? SHAPE
                                                           : 0;
        if (!comma || !key || seen & key)
            return expected(h, "'descr', 'fortran_order' and 'shape', each once");
        seen |= key;
        if (!accept_text(h, ":"))
            return expected(h, ":");
        int rc = key == DTYPE   ? read_dtype(h, npy)
                 : key == ORDER ? read_order(h)
                                : read_shape(h, npy);
        if (rc < 0)
            return -1;
        comma = accept_text(h, ",");
    }
    if (seen != ALL)
        return expected(h, "a header with 'descr', 'fortran_order' and 'shape'");
    skip_blanks(h);
    return h->at == h->end ? 0 : expected(h, "blanks after the header");
}

int npy_parse_header(struct npy *npy, const uint8_t *file, size_t size)
{
    struct npy_header h = {file, file, file + size};
    if (size < MAGIC_SIZE + 4 || memcmp(file, MAGIC, MAGIC_SIZE) != 0)
        return size ? expected(&h, "a .npy file, which starts with \\x93NUMPY")
                    : error_set(STATUS_DATA, "expected a .npy file, found an empty one");
    const uint8_t *version = file + MAGIC_SIZE;
    if (version[0] < 1 || version[0] > 3 || version[1] != 0)
        return error_set(STATUS_DATA,
                         "expected a .npy file of version 1.0, 2.0 or 3.0, found %u.%u", version[0],
                         version[1]);
    const size_t start = MAGIC_SIZE + (version[0] == 1 ? 4 : 6);
    size_t length = start <= size ? get_le(version + 2, start - MAGIC_SIZE - 2) : 0;
    if (start > size || length > size - start || length > NPY_HEADER_MAX - start)
        return error_set(STATUS_DATA,
                         "expected a header that ends before byte %zu, found one of %zu bytes from "
                         "byte %zu on",
                         size < NPY_HEADER_MAX ? size : NPY_HEADER_MAX, length, start);
    h.at = file + start;
    h.end = h.at + length;
    if (read_dict(&h, npy) < 0)
        return -1;
    char text[128];
    size_t bytes;
    shape_text(npy->shape, npy->rank, text, sizeof text);
    if (!shape_count(npy->shape, npy->rank, &npy->count) ||
        !size_mul(npy->count, dtype_size(npy->dtype), &bytes))
        return error_set(STATUS_DATA, "%s of %s is too large", dtype_name(npy->dtype), text);
    npy->data = h.end;
    return 0;
}

int npy_parse(struct npy *npy, const uint8_t *file, size_t size)
{
    char text[128];
    if (npy_parse_header(npy, file, size) < 0)
        return -1;
    const size_t start = (size_t)(npy->data - file), found = size - start;
    const size_t wanted = npy->count * dtype_size(npy->dtype);
    if (found != wanted)
        return error_set(STATUS_DATA, "byte %zu: expected %zu bytes of data (%s %s), found %zu",
                         start, wanted, dtype_name(npy->dtype),
                         shape_text(npy->shape, npy->rank, text, sizeof text), found);
    return 0;
}

void npy_make_header(uint8_t header[NPY_HEADER_SIZE], enum dtype dtype, const size_t *shape,
                     size_t rank)
{
    const size_t prefix = MAGIC_SIZE + 4, length = NPY_HEADER_SIZE - prefix;
    char text[NPY_HEADER_SIZE];
    int used = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                        dtype_npy(dtype));
    for (size_t i = 0; i < rank; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, i ? " %zu%s" : "%zu%s", shape[i],
                         i + 1 < rank || rank == 1 ? "," : "");
    used += snprintf(text + used, sizeof text - (size_t)used, "), }");
    memcpy(header, MAGIC "\1\0", MAGIC_SIZE + 2);
    put_le(header + MAGIC_SIZE + 2, 2, length);
    memset(header + prefix, ' ', length);
    memcpy(header + prefix, text, (size_t)used);
    header[NPY_HEADER_SIZE - 1] = '\n';
}

int npy_read(struct npy *npy, const char *path, size_t size_max)
{
    size_t size;
    *npy = (struct npy){0};
    if (file_read_regular(path, &npy->file, &size, NPY_HEADER_MAX + size_max) < 0)
        return -1;
    if (npy_parse(npy, npy->file, size) == 0)
        return 0;
    npy_free(npy);
    return error_prefix("%s", path);
}

void npy_free(struct npy *npy)
{
    free(npy->file);
    *npy = (struct npy){0};
}
