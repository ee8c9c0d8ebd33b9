// SPDX-License-Identifier: MIT
#include "formats/weights/weights.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/safetensors.h"
#include "formats/weights/torch-weights.h"
#include "formats/weights/weights-list.h"
#include "lib/base/error.h"

// A header as JSON takes up to 90 times its size in memory.
#define HEADER_MAX ((size_t)2 << 20)

static int read_torch(struct weights_list *list,
                      int (*open)(struct torch_file *file, const uint8_t *bytes, size_t size))
{
    const struct mapping *mapping = &list->weights->mapping;
    struct torch_file file;
    if (open(&file, mapping->data, mapping->size))
        return -1;
    if (!(list->weights->metadata = json_object())) {
        torch_close(&file);
        return error_set(STATUS_INTERNAL, "out of memory");
    }
    int rc = torch_list_weights(&file, mapping->size, list);
    torch_close(&file);
    return rc;
}

static int read_safetensors(struct weights_list *list)
{
    const struct mapping *mapping = &list->weights->mapping;
    struct safetensors doc;
    if (safetensors_parse(&doc, mapping->data, mapping->size, mapping->size, HEADER_MAX))
        return -1;
    list->weights->metadata = json_incref(doc.metadata);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < doc.n_tensors; i++) {
        const struct safetensor *tensor = &doc.tensors[i];
        struct weight weight = {
            .dtype = tensor->dtype, .rank = tensor->rank, .data = safetensors_data(&doc, tensor)};
        size_t stride = 1;
        for (size_t k = tensor->rank; k > 0; k--) {
            weight.shape[k - 1] = tensor->shape[k - 1];
            weight.strides[k - 1] = stride;
            stride *= tensor->shape[k - 1];
        }
        rc = weights_list_add(list, weight, tensor->name, strlen(tensor->name));
    }
    safetensors_close(&doc);
    return rc;
}

static int read_file(struct weights_list *list)
{
    const struct mapping *mapping = &list->weights->mapping;
    const uint8_t *bytes = mapping->data;
    const size_t size = mapping->size;
    if (torch_is_zip(bytes, size))
        return read_torch(list, torch_open_zip);
    if (torch_is_legacy(bytes, size))
        return read_torch(list, torch_open_legacy);
    if (torch_is_tar(bytes, size))
        return error_set(STATUS_DATA, "a tar archive, as PyTorch wrote before 0.2: read it with "
                                      "torch.load and write it again with torch.save");
    if (size < 9 || bytes[8] != '{')
        return error_set(STATUS_DATA,
                         "expected weights (safetensors, or a file of torch.save), found neither");
    return read_safetensors(list);
}

int weights_open(struct weights *weights, const char *path)
{
    *weights = (struct weights){.path = path};
    struct weights_list list = {.weights = weights};
    if (file_map(path, &weights->mapping))
        return -1;
    if (read_file(&list) == 0 && weights_list_finish(&list) == 0)
        return 0;
    weights_close(weights);
    return error_prefix("%s", path);
}

void weights_close(struct weights *weights)
{
    json_decref(weights->metadata);
    free(weights->all);
    free(weights->names);
    free(weights->by_name);
    file_unmap(&weights->mapping);
    *weights = (struct weights){0};
}

const struct weight *weights_find(const struct weights *weights, const char *name)
{
    for (size_t low = 0, high = weights->n_weights; low < high;) {
        size_t middle = low + (high - low) / 2;
        const struct weight *weight = &weights->all[weights->by_name[middle]];
        int order = strcmp(name, weight->name);
        if (order == 0)
            return weight;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *weights_get(const struct weights *weights, const char *key)
{
    return json_string_value(json_object_get(weights->metadata, key));
}

size_t weight_count(const struct weight *weight)
{
    size_t count = 1; // weights_open has checked the product
    for (size_t i = 0; i < weight->rank; i++)
        count *= weight->shape[i];
    return count;
}

// Elements that lie one after another from each index of the first `outer` dimensions on.
static size_t run_length(const struct weight *weight, size_t *outer)
{
    size_t run = 1, i = weight->rank;
    for (; i > 1 && (weight->shape[i - 1] == 1 || weight->strides[i - 1] == run); i--)
        run *= weight->shape[i - 1];
    *outer = i;
    return run;
}

static bool is_in_order(const struct weight *weight)
{
    size_t outer, run = run_length(weight, &outer);
    return outer == 0 || (outer == 1 && (weight->strides[0] == run || weight->shape[0] <= 1)) ||
           weight_count(weight) == 0;
}

// Calls put for every run of elements of these rows, in C order; stops where it gives not 0.
static int for_runs(const struct weight *weight, size_t row, size_t rows,
                    int (*put)(const struct weight *weight, const uint8_t *from, size_t n,
                               void **to),
                    void *to)
{
    const size_t size = dtype_size(weight->dtype);
    size_t outer, run = run_length(weight, &outer), index[TENSOR_RANK_MAX] = {row};
    assert(rows <= (weight->rank ? weight->shape[0] : 1) - row);
    if (rows == 0 || weight_count(weight) == 0)
        return 0;
    if (is_in_order(weight)) {
        run *= outer ? rows : 1;
        return put(weight, weight->data + (outer ? row * weight->strides[0] * size : 0), run, &to);
    }
    for (;;) {
        size_t offset = 0, i = outer;
        for (size_t k = 0; k < outer; k++)
            offset += index[k] * weight->strides[k];
        int rc = put(weight, weight->data + offset * size, run, &to);
        while (i > 0 && ++index[i - 1] == (i == 1 ? row + rows : weight->shape[i - 1]))
            index[--i] = 0;
        if (rc || i == 0)
            return rc;
    }
}

static int put_floats(const struct weight *weight, const uint8_t *from, size_t n, void **to)
{
    float *out = *to;
    *to = out + n;
    return floats_read(out, from, weight->dtype, n);
}

static int put_bytes(const struct weight *weight, const uint8_t *from, size_t n, void **to)
{
    size_t size = n * dtype_size(weight->dtype);
    memcpy(*to, from, size);
    *to = (uint8_t *)*to + size;
    return 0;
}

int weight_read_floats(const struct weight *weight, size_t row, size_t rows, float *out)
{
    char name[ERROR_SHOWN_SIZE];
    if (for_runs(weight, row, rows, put_floats, out))
        return error_prefix("tensor \"%s\"", error_shown(weight->name, strlen(weight->name), name));
    return 0;
}

void weight_read(const struct weight *weight, size_t row, size_t rows, void *out)
{
    for_runs(weight, row, rows, put_bytes, out);
}

const float *weight_in_place(const struct weight *weight)
{
    if (weight->dtype != DTYPE_F32 || (uintptr_t)weight->data % alignof(float) ||
        !is_in_order(weight))
        return NULL;
    return (const float *)(uintptr_t)weight->data;
}
