// Tells the formats of weights apart; a reader for each fills the same list.
// SPDX-License-Identifier: MIT
#include "formats/weights/weights.h"

#include <stdlib.h>
#include <string.h>

#include "formats/containers/safetensors.h"
#include "formats/weights/torch-weights.h"
#include "formats/weights/weight-sums.h"
#include "formats/weights/weights-list.h"
#include "lib/base/error.h"

// Parsed JSON takes up to 90 times the size of its text in memory.
#define HEADER_MAX ((size_t)2 << 20)

static int read_torch(struct weights_list *list, const uint8_t *bytes, size_t size)
{
    struct torch_file file;
    if (torch_open(&file, bytes, size) < 0)
        return -1;
    int rc = (list->metadata = json_object()) ? torch_list_weights(&file, size, list)
                                              : error_set(STATUS_INTERNAL, "out of memory");
    torch_close(&file);
    return rc;
}

static int read_safetensors(struct weights_list *list, const uint8_t *bytes, size_t size)
{
    struct safetensors doc;
    if (safetensors_parse(&doc, bytes, size, size, HEADER_MAX) < 0)
        return -1;
    list->metadata = json_incref(doc.metadata);
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

static int read_weights(struct weights_list *list, const uint8_t *bytes, size_t size)
{
    if (torch_is_file(bytes, size))
        return read_torch(list, bytes, size);
    if (torch_is_tar(bytes, size))
        return error_set(STATUS_DATA, "a tar archive, as PyTorch wrote before 0.2: read it with "
                                      "torch.load and write it again with torch.save");
    if (size < 9 || bytes[8] != '{')
        return error_set(STATUS_DATA,
                         "expected weights (safetensors, or a file of torch.save), found neither");
    return read_safetensors(list, bytes, size);
}

// Only dit-train writes checksums that are meant here.
static int add_sums(struct weights *weights)
{
    const char *kind = weights_get(weights, "kind");
    const struct mapping *file = &weights->mapping;
    if (!kind || strcmp(kind, "dit-checkpoint") != 0 || torch_is_file(file->data, file->size))
        return 0;
    if (weight_sums_new(&weights->sums, weights->all, weights->n_weights, file->data, file->size) <
        0)
        return -1;
    for (size_t i = 0; i < weights->n_weights; i++)
        weights->all[i].sums = weights->sums;
    return 0;
}

int weights_open(struct weights *weights, const char *path)
{
    struct mapping mapping;
    struct weights_list list = {0};
    *weights = (struct weights){0};
    if (file_map(path, &mapping) < 0)
        return -1;
    int rc = read_weights(&list, mapping.data, mapping.size);
    if (rc == 0)
        rc = weights_list_finish(&list);
    *weights = (struct weights){.path = path,
                                .metadata = list.metadata,
                                .n_weights = list.n,
                                .all = list.all,
                                .mapping = mapping,
                                .names = list.names,
                                .by_name = list.by_name};
    if (rc == 0 && add_sums(weights) == 0)
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
    weight_sums_free(weights->sums);
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
