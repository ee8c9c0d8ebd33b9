// Tells the formats of weights apart; a reader for each fills the same list.
// SPDX-License-Identifier: MIT
#include "formats/weights/weights.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/checksum.h"
#include "formats/containers/safetensors.h"
#include "formats/containers/zip-read.h"
#include "formats/weights/download.h"
#include "formats/weights/torch-weights.h"
#include "formats/weights/weight-sums.h"
#include "formats/weights/weights-index.h"
#include "formats/weights/weights-list.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

static int read_torch(struct weights_list *list, const uint8_t *bytes, size_t size)
{
    struct torch_file file;
    if (torch_open(&file, bytes, size) < 0)
        return -1;
    if (!list->metadata)
        list->metadata = json_object();
    int rc = list->metadata ? torch_list_weights(&file, size, list)
                            : error_set(STATUS_INTERNAL, "out of memory");
    torch_close(&file);
    return rc;
}

static int read_safetensors(struct weights_list *list, const uint8_t *bytes, size_t size)
{
    struct safetensors doc;
    if (safetensors_parse_any(&doc, bytes, size) < 0)
        return -1;
    if (!list->metadata)
        list->metadata = json_incref(doc.metadata);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < doc.n_tensors; i++) {
        const struct safetensor *tensor = &doc.tensors[i];
        if (tensor->unsupported) {
            rc = weights_list_add_unsupported(list, tensor->name, strlen(tensor->name),
                                              tensor->unsupported);
            continue;
        }
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
    const char *instead = download_found_instead(bytes, size);
    if (instead)
        return error_set(STATUS_DATA, "expected weights, found %s", instead);
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
    const struct mapping *file = weights->files;
    if (weights->n_files > 1 || !kind || strcmp(kind, "dit-checkpoint") != 0 ||
        torch_is_file(file->data, file->size))
        return 0;
    if (weight_sums_new(&weights->sums, weights->n_weights, file->data, file->size) < 0)
        return -1;
    for (size_t i = 0; i < weights->n_weights; i++) {
        weights->all[i].sums = weights->sums;
        weights->all[i].number = i;
    }
    return 0;
}

// Maps one more file. -1 with an error.
static int keep_mapping(struct weights *weights, const char *path)
{
    if (mem_grow(&weights->files, weights->n_files, 1, sizeof *weights->files) < 0 ||
        file_map(path, &weights->files[weights->n_files]) < 0)
        return -1;
    weights->n_files++;
    return 0;
}

// Reads the files that an index names.
static int read_parts(struct weights *weights, struct weights_list *list)
{
    char **paths =
        weights_index_paths(weights->path, weights->files[0].data, weights->files[0].size);
    int rc = paths ? 0 : error_prefix("%s", weights->path);
    for (size_t i = 0; rc == 0 && paths[i]; i++) {
        rc = keep_mapping(weights, paths[i]);
        const struct mapping *file = &weights->files[weights->n_files - 1];
        if (rc == 0 && (rc = read_weights(list, file->data, file->size)) < 0)
            error_prefix("%s", paths[i]);
    }
    weights_index_free(paths);
    return rc;
}

static int read_files(struct weights *weights, struct weights_list *list)
{
    const struct mapping *file = weights->files;
    if (weights_index_matches(file->data, file->size))
        return read_parts(weights, list);
    return read_weights(list, file->data, file->size) < 0 ? error_prefix("%s", weights->path) : 0;
}

int weights_open(struct weights *weights, const char *path)
{
    struct weights_list list = {0};
    *weights = (struct weights){.path = path};
    int rc = keep_mapping(weights, path);
    if (rc == 0)
        rc = read_files(weights, &list);
    if (rc == 0 && (rc = weights_list_finish(&list)) < 0)
        error_prefix("%s", path);
    weights->metadata = list.metadata;
    weights->n_weights = list.n;
    weights->all = list.all;
    weights->unsupported = list.unsupported;
    weights->names = list.names;
    weights->by_name = list.by_name;
    if (rc == 0 && (rc = add_sums(weights)) < 0)
        error_prefix("%s", path);
    if (rc < 0)
        weights_close(weights);
    return rc;
}

void weights_close(struct weights *weights)
{
    json_decref(weights->metadata);
    json_decref(weights->unsupported);
    free(weights->all);
    free(weights->names);
    free(weights->by_name);
    weight_sums_free(weights->sums);
    for (size_t i = 0; i < weights->n_files; i++)
        file_unmap(&weights->files[i]);
    free(weights->files);
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

int weights_find_prefixes(const struct weights *weights, const char *end, size_t size, size_t n_max,
                          char *prefixes)
{
    const size_t length = strlen(end);
    size_t n = 0;
    for (size_t i = 0; i < weights->n_weights; i++) {
        const char *name = weights->all[i].name;
        size_t all = strlen(name), before = all - length;
        if (all < length || strcmp(name + before, end) != 0 || (before && name[before - 1] != '.'))
            continue;
        if (n == n_max || before >= size)
            return error_set(STATUS_DATA,
                             "%s: expected at most %zu tensors %s, and found %s as well",
                             weights->path, n_max, end, name);
        memcpy(prefixes + n * size, name, before);
        prefixes[n++ * size + before] = 0;
    }
    return (int)n;
}

int weights_join_blocks(struct weights *weights, const char *prefix, size_t first)
{
    static const char word[] = "decoder_blocks.";
    const size_t before = strlen(prefix), length = strlen(word);
    bool renamed = false;
    for (size_t i = 0; i < weights->n_weights; i++) {
        char *at = weights->names + (weights->all[i].name - weights->names) + before, *end;
        if (strncmp(weights->all[i].name, prefix, before) != 0 || strncmp(at, word, length) != 0)
            continue;
        unsigned long number = strtoul(at + length, &end, 10) + first;
        if (end == at + length || *end != '.' || number >= WEIGHTS_MAX)
            continue;
        char blocks[sizeof word]; // the new name is no longer than the old one
        size_t n = (size_t)snprintf(blocks, sizeof blocks, "blocks.%lu", number);
        memcpy(at, blocks, n);
        memmove(at + n, end, strlen(end) + 1);
        renamed = true;
    }
    return renamed ? weights_list_sort(weights->all, weights->n_weights, weights->by_name) : 0;
}

const char *weights_unsupported(const struct weights *weights, const char *name)
{
    return json_string_value(json_object_get(weights->unsupported, name));
}

size_t weights_file_size(const struct weights *weights)
{
    size_t size = 0;
    for (size_t i = 0; i < weights->n_files; i++)
        size += weights->files[i].size;
    return size;
}

int weights_check_file(const struct weights *weights)
{
    const struct mapping *file = weights->files;
    if (weights->n_files > 1 || torch_is_file(file->data, file->size))
        return 0;
    int rc = weights->sums ? weight_sums_check_file(weights->sums)
                           : checksum_check(file->data, file->size);
    return rc < 0 ? error_prefix("%s", weights->path) : 0;
}

static int sum_members(const struct mapping *file)
{
    struct zip_directory zip;
    if (zip_read_directory(&zip, file->data, file->size, false) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < zip.n; i++) {
        const struct zip_member *member = &zip.members[i];
        char shown[ERROR_SHOWN_SIZE];
        uint32_t sum = checksum_add(0, member->data, member->packed);
        if (sum != member->crc)
            rc = error_set(STATUS_DATA, "%s: its checksum is %08x, expected %08x",
                           error_shown(member->name, member->name_size, shown), sum, member->crc);
    }
    zip_free_directory(&zip);
    return rc;
}

int weights_check_all(const struct weights *weights)
{
    for (size_t f = 0; f < weights->n_files; f++) {
        const struct mapping *file = &weights->files[f];
        if (file->size > 1 && memcmp(file->data, "PK", 2) == 0 && sum_members(file) < 0)
            return error_prefix("%s", weights->path);
    }
    return weights_check_file(weights);
}

const char *weights_get(const struct weights *weights, const char *key)
{
    return json_string_value(json_object_get(weights->metadata, key));
}
