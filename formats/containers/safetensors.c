// Parses safetensors headers, which may come from anywhere, and builds them.
// SPDX-License-Identifier: MIT
#include "formats/containers/safetensors.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define HEADER_MAX ((size_t)100000000)
// A value of JSON takes up to 350 bytes of memory. A tensor has about 10.
#define VALUES_MAX ((size_t)1 << 19)

static const char *shown(const char *text, char out[ERROR_SHOWN_SIZE])
{
    return error_shown(text, strlen(text), out);
}

static int json_to_size(const json_t *number, size_t *out)
{
    if (!json_is_integer(number) || json_integer_value(number) < 0)
        return -1;
    *out = (size_t)json_integer_value(number);
    return 0;
}

static int parse_metadata(struct safetensors *doc, json_t *value)
{
    const char *key;
    json_t *item;
    void *next;
    char text[ERROR_SHOWN_SIZE];
    if (!json_is_object(value))
        return error_set(STATUS_DATA, "__metadata__ is not an object");
    json_object_foreach_safe(value, next, key, item)
    {
        if (!json_is_string(item))
            return error_set(STATUS_DATA, "__metadata__: the value of \"%s\" is not a string",
                             shown(key, text));
        if (strlen(json_string_value(item)) != json_string_length(item))
            json_object_del(value, key);
    }
    json_decref(doc->metadata);
    doc->metadata = json_incref(value);
    return 0;
}

// Sets the tensor's shape, and its size in bytes if the type is known.
static int parse_shape(struct safetensor *tensor, const json_t *shape, const char *text)
{
    tensor->rank = json_array_size(shape);
    if (tensor->unsupported) {
        tensor->rank = 0;
        return 0;
    }
    if (tensor->rank > TENSOR_RANK_MAX)
        return error_set(STATUS_DATA, "tensor \"%s\": rank %zu, at most %d is supported", text,
                         tensor->rank, TENSOR_RANK_MAX);
    for (size_t i = 0; i < tensor->rank; i++)
        if (json_to_size(json_array_get(shape, i), &tensor->shape[i]) < 0)
            return error_set(STATUS_DATA, "tensor \"%s\": size %zu of its shape is not a size",
                             text, i);
    size_t count;
    if (!shape_count(tensor->shape, tensor->rank, &count) ||
        !size_mul(count, dtype_size(tensor->dtype), &tensor->size))
        return error_set(STATUS_DATA, "tensor \"%s\": its shape is too large", text);
    return 0;
}

static int parse_tensor(struct safetensor *tensor, const char *name, const json_t *value, bool any)
{
    char text[ERROR_SHOWN_SIZE];
    shown(name, text);
    tensor->name = name;
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (json_object_size(value) != 3 || !dtype || !json_is_array(shape) || !json_is_array(offsets))
        return error_set(STATUS_DATA, "tensor \"%s\": expected dtype, shape and data_offsets",
                         text);
    bool known = dtype_from_name(dtype, &tensor->dtype) == 0;
    tensor->unsupported = known ? NULL : dtype;
    if (!known && !any) {
        char found[ERROR_SHOWN_SIZE];
        return error_set(STATUS_DATA, "tensor \"%s\": unknown dtype \"%s\"", text,
                         shown(dtype, found));
    }
    if (parse_shape(tensor, shape, text) < 0)
        return -1;
    size_t end;
    if (json_array_size(offsets) != 2 ||
        json_to_size(json_array_get(offsets, 0), &tensor->offset) < 0 ||
        json_to_size(json_array_get(offsets, 1), &end) < 0 || end < tensor->offset)
        return error_set(STATUS_DATA, "tensor \"%s\": data_offsets are not two offsets in order",
                         text);
    if (!known)
        tensor->size = end - tensor->offset;
    if (end - tensor->offset != tensor->size)
        return error_set(STATUS_DATA, "tensor \"%s\": %zu bytes of data, its shape takes %zu", text,
                         end - tensor->offset, tensor->size);
    return 0;
}

// By offset of the data. An empty tensor comes before another that begins at the same offset.
static int compare_offsets(const void *pa, const void *pb)
{
    const struct safetensor *a = pa, *b = pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->size == b->size ? 0 : a->size < b->size ? -1 : 1;
}

static int check_offsets(const struct safetensors *doc)
{
    size_t expected = 0;
    for (size_t i = 0; i < doc->n_tensors; i++) {
        const struct safetensor *tensor = &doc->tensors[i];
        char text[ERROR_SHOWN_SIZE];
        if (tensor->offset != expected)
            return error_set(STATUS_DATA, "tensor \"%s\": data at offset %zu, expected %zu (%s)",
                             shown(tensor->name, text), tensor->offset, expected,
                             tensor->offset < expected ? "an overlap" : "a gap");
        if (!size_add(expected, tensor->size, &expected))
            return error_set(STATUS_DATA, "tensor \"%s\": the end of its data overflows",
                             shown(tensor->name, text));
    }
    if (expected != doc->data_size)
        return error_set(STATUS_DATA, "%zu bytes of data, the tensors take %zu", doc->data_size,
                         expected);
    return 0;
}

static int parse_root(struct safetensors *doc)
{
    const char *key;
    json_t *value;
    bool sorted = true;
    doc->tensors = mem_new(json_object_size(doc->root) + 1, sizeof *doc->tensors);
    if (!doc->tensors)
        return -1;
    json_object_foreach(doc->root, key, value)
    {
        if (!strcmp(key, "__metadata__")) {
            if (parse_metadata(doc, value) < 0)
                return -1;
            continue;
        }
        struct safetensor *tensor = &doc->tensors[doc->n_tensors];
        if (parse_tensor(tensor, key, value, doc->any) < 0)
            return -1;
        if (doc->n_tensors++ && compare_offsets(tensor - 1, tensor) > 0)
            sorted = false;
    }
    // qsort need not be stable, so tensors that are in order already (as in all streams) aren't
    // sorted: empty ones then keep the header's order.
    if (!sorted)
        qsort(doc->tensors, doc->n_tensors, sizeof *doc->tensors, compare_offsets);
    return check_offsets(doc);
}

// Bounds the memory of the parsed header: strings take their own size, but other values far more.
int safetensors_check_values(const uint8_t *text, size_t size)
{
    size_t n = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"')
            quoted = !quoted;
        else if (quoted)
            i += text[i] == '\\';
        else
            n += text[i] == ',' || text[i] == '[' || text[i] == '{';
    }
    return n > VALUES_MAX ? error_set(STATUS_DATA, "JSON of more than %zu values", VALUES_MAX) : 0;
}

static int parse_document(struct safetensors *doc, const uint8_t *bytes, size_t available,
                          size_t total, size_t header_max)
{
    if (total < 10)
        return error_set(STATUS_DATA, "%zu bytes: too short for a safetensors document", total);
    if (available < 8)
        return error_set(STATUS_DATA, "the header is cut short");
    uint64_t length = get_le(bytes, 8);
    if (length > total - 8)
        return error_set(STATUS_DATA, "a header of %" PRIu64 " bytes in a document of %zu", length,
                         total);
    if (length < 2 || length > header_max)
        return error_set(STATUS_DATA, "a header of %" PRIu64 " bytes, expected 2 to %zu", length,
                         header_max);
    if (length > available - 8)
        return error_set(STATUS_DATA, "the header is cut short");
    if (bytes[8] != '{')
        return error_set(STATUS_DATA, "the header does not start with '{'");
    doc->header_size = 8 + (size_t)length;
    doc->data_size = total - doc->header_size;
    doc->data = available == total ? bytes + doc->header_size : NULL;
    if (doc->any && safetensors_check_values(bytes + 8, (size_t)length) < 0)
        return -1;
    json_error_t wrong;
    char text[ERROR_SHOWN_SIZE];
    doc->root = json_loadb((const char *)bytes + 8, (size_t)length,
                           JSON_REJECT_DUPLICATES | (doc->any ? JSON_ALLOW_NUL : 0), &wrong);
    if (!doc->root)
        return error_set(STATUS_DATA, "header, byte %d: %s", wrong.position,
                         shown(wrong.text, text));
    doc->metadata = json_object();
    if (!doc->metadata) {
        safetensors_close(doc);
        return error_set(STATUS_INTERNAL, "out of memory");
    }
    if (parse_root(doc) < 0) {
        safetensors_close(doc);
        return -1;
    }
    return 0;
}

int safetensors_parse(struct safetensors *doc, const uint8_t *bytes, size_t available, size_t total,
                      size_t header_max)
{
    *doc = (struct safetensors){0};
    return parse_document(doc, bytes, available, total, header_max);
}

int safetensors_parse_any(struct safetensors *doc, const uint8_t *bytes, size_t size)
{
    *doc = (struct safetensors){.any = true};
    return parse_document(doc, bytes, size, size, HEADER_MAX);
}

void safetensors_close(struct safetensors *doc)
{
    free(doc->tensors);
    json_decref(doc->metadata);
    json_decref(doc->root);
    *doc = (struct safetensors){0};
}

const char *safetensors_get(const struct safetensors *doc, const char *key)
{
    return json_string_value(json_object_get(doc->metadata, key));
}

const uint8_t *safetensors_data(const struct safetensors *doc, const struct safetensor *tensor)
{
    return doc->data + tensor->offset;
}

static json_t *build_tensor(const struct safetensor *tensor)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < tensor->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(tensor->dtype), "shape", shape,
                     "data_offsets", (json_int_t)tensor->offset,
                     (json_int_t)(tensor->offset + tensor->size));
}

static int build_root(json_t *root, struct safetensor *tensors, size_t n)
{
    size_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        struct safetensor *tensor = &tensors[i];
        size_t count;
        if (json_object_get(root, tensor->name))
            return error_set(STATUS_INTERNAL, "two tensors are named \"%s\"", tensor->name);
        if (i && dtype_size(tensor->dtype) > dtype_size(tensors[i - 1].dtype))
            return error_set(STATUS_INTERNAL, "tensor \"%s\" has larger elements than \"%s\"",
                             tensor->name, tensors[i - 1].name);
        tensor->offset = offset;
        if (!shape_count(tensor->shape, tensor->rank, &count) ||
            !size_mul(count, dtype_size(tensor->dtype), &tensor->size) ||
            !size_add(offset, tensor->size, &offset))
            return error_set(STATUS_INTERNAL, "tensor \"%s\": its shape is too large",
                             tensor->name);
        if (json_object_set_new(root, tensor->name, build_tensor(tensor)) < 0)
            return error_set(STATUS_DATA, "tensor %zu: its name is not UTF-8", i);
    }
    return 0;
}

// A header is parsed back before anyone writes it, so that none is written that misses something or
// that no reader would take.
static int check_header(const uint8_t *header, size_t size, const struct safetensor *tensors,
                        size_t n, const json_t *metadata)
{
    struct safetensors doc;
    size_t data_size = n ? tensors[n - 1].offset + tensors[n - 1].size : 0;
    if (safetensors_parse(&doc, header, size, size + data_size, size) < 0)
        return error_prefix("the header that was built");
    bool same = doc.n_tensors == n && (!metadata || json_equal(doc.metadata, metadata));
    safetensors_close(&doc);
    return same
               ? 0
               : error_set(STATUS_INTERNAL, "the header that was built lacks some of its contents");
}

int safetensors_build_header(struct safetensor *tensors, size_t n, const json_t *metadata,
                             uint8_t **header, size_t *header_size)
{
    *header = NULL;
    json_t *root = json_object();
    json_t *copy = metadata && json_object_size(metadata) ? json_deep_copy(metadata) : NULL;
    if (!root || (copy && json_object_set_new(root, "__metadata__", copy) < 0)) {
        json_decref(root);
        return error_set(STATUS_INTERNAL, "out of memory");
    }
    char *text = NULL;
    if (build_root(root, tensors, n) == 0 && !(text = json_dumps(root, JSON_COMPACT)))
        error_set(STATUS_INTERNAL, "out of memory");
    json_decref(root);
    if (!text)
        return -1;
    size_t length = strlen(text);
    size_t size = (8 + length + 63) / 64 * 64;
    if ((*header = mem_new(size, 1))) {
        put_le(*header, 8, size - 8);
        memcpy(*header + 8, text, length);
        memset(*header + 8 + length, ' ', size - 8 - length);
        *header_size = size;
    }
    free(text);
    if (*header && check_header(*header, size, tensors, n, metadata) == 0)
        return 0;
    free(*header);
    *header = NULL;
    return -1;
}
