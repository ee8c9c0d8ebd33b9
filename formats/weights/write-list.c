// Tensors pass in pieces, so that a file of any size takes a few MiB of memory.
// SPDX-License-Identifier: MIT
#include "formats/weights/write-list.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/checksum.h"
#include "formats/containers/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define PIECE_SIZE ((size_t)4 << 20) // bytes; a row that is larger is a piece of its own

void write_list_free(struct write_list *list)
{
    free(list->entries);
    list->entries = NULL;
    list->n = 0;
}

static bool is_floating(enum dtype dtype)
{
    return dtype == DTYPE_F16 || dtype == DTYPE_BF16 || dtype == DTYPE_F32 || dtype == DTYPE_F64;
}

static int check_floating(const struct write_list *list, const struct weight *weight)
{
    if (is_floating(weight->dtype))
        return 0;
    return error_set(STATUS_DATA, "%s: tensor %s is of type %s, expected floats", list->path,
                     weight->name, dtype_name(weight->dtype));
}

// Adds an entry without values. NULL with an error.
static struct write_entry *append_entry(struct write_list *list, const char *prefix,
                                        const char *name, enum dtype dtype, const size_t *shape,
                                        size_t rank)
{
    if (mem_grow(&list->entries, list->n, 1, sizeof *list->entries) < 0)
        return NULL;
    struct write_entry *entry = &list->entries[list->n++];
    *entry = (struct write_entry){.dtype = list->dtype == DTYPE_COUNT ? dtype : list->dtype,
                                  .rank = rank};
    snprintf(entry->name, sizeof entry->name, "%s%s", prefix, name);
    if (rank)
        memcpy(entry->shape, shape, rank * sizeof *shape);
    return entry;
}

int write_list_add(struct write_list *list, const char *prefix, const char *name,
                   const struct weight *weight)
{
    if (check_floating(list, weight) < 0)
        return -1;
    struct write_entry *entry =
        append_entry(list, prefix, name, weight->dtype, weight->shape, weight->rank);
    if (!entry)
        return -1;
    entry->n_parts = 1;
    entry->parts[0] = (struct write_part){weight, 0, weight_rows(weight)};
    return 0;
}

int write_list_add_values(struct write_list *list, const char *prefix, const char *name,
                          const size_t *shape, size_t rank, const float *values)
{
    struct write_entry *entry = append_entry(list, prefix, name, DTYPE_F32, shape, rank);
    if (!entry)
        return -1;
    entry->values = values;
    return 0;
}

static size_t row_size(const struct weight *weight)
{
    return weight_count(weight) / weight_rows(weight) * dtype_size(weight->dtype);
}

static size_t piece_rows(size_t size)
{
    return size < PIECE_SIZE ? PIECE_SIZE / size : 1;
}

// Compares two tensors of the same shape, bit for bit.
static int check_same(const struct write_list *list, const struct weight *a, const struct weight *b)
{
    size_t rows = weight_rows(a), size = row_size(a), most = piece_rows(size);
    if (most > rows)
        most = rows;
    uint8_t *bytes = mem_new(most, 2 * size);
    bool same = a->dtype == b->dtype;
    if (!bytes)
        return -1;
    for (size_t row = 0; same && row < rows; row += most) {
        size_t n = rows - row < most ? rows - row : most;
        weight_read(a, row, n, bytes);
        weight_read(b, row, n, bytes + most * size);
        same = memcmp(bytes, bytes + most * size, n * size) == 0;
    }
    free(bytes);
    return same ? 0
                : error_set(STATUS_DATA,
                            "%s: tensors %s and %s differ; the model has one for all blocks",
                            list->path, a->name, b->name);
}

static int check_parts(const struct write_list *list, const struct binding *from, size_t first,
                       size_t end)
{
    for (size_t p = first; p < end; p++) {
        const struct weight *weight = from->tensors[p], *before = from->tensors[p - (p > first)];
        const struct name_part *part = &from->naming->parts[p];
        if (check_floating(list, weight) < 0)
            return -1;
        if (p > first && part->row == part[-1].row) {
            if (check_same(list, before, weight) < 0)
                return -1;
        } else if (weight->dtype != before->dtype)
            return error_set(STATUS_DATA, "%s: tensor %s is of type %s, %s of type %s", list->path,
                             before->name, dtype_name(before->dtype), weight->name,
                             dtype_name(weight->dtype));
    }
    return 0;
}

// Finds the rows of a part to be written in the parts first .. end - 1 of the file.
static void find_rows(struct write_entry *entry, const struct name_part *part,
                      const struct binding *from, size_t first, size_t end)
{
    size_t row = part->row, stop = part->row + part->rows;
    for (size_t p = first; p < end && row < stop; p++) {
        const struct name_part *source = &from->naming->parts[p];
        if (row < source->row || row >= source->row + source->rows)
            continue;
        size_t last = source->row + source->rows < stop ? source->row + source->rows : stop;
        entry->parts[entry->n_parts++] =
            (struct write_part){from->tensors[p], row - source->row, last - row};
        row = last;
    }
}

int write_list_add_param(struct write_list *list, const char *prefix, const struct naming *to,
                         const struct binding *from, size_t i)
{
    size_t first = 0, end = 0, first_to, end_to;
    naming_find_parts(to, i, &first_to, &end_to);
    if (from)
        naming_find_parts(from->naming, i, &first, &end);
    if (check_parts(list, from, first, end) < 0)
        return -1;
    for (size_t p = first_to; p < end_to; p++) {
        size_t shape[TENSOR_RANK_MAX], rank = naming_part_shape(to, &to->parts[p], shape);
        enum dtype dtype = from ? from->tensors[first]->dtype : DTYPE_F32;
        struct write_entry *entry =
            append_entry(list, prefix, to->parts[p].name, dtype, shape, rank);
        if (!entry)
            return -1;
        find_rows(entry, &to->parts[p], from, first, end);
    }
    return 0;
}

// An entry on its way to `write`.
struct conversion {
    const struct write_list *list;
    const struct write_entry *entry;
    int (*write)(void *to, const void *data, size_t size);
    void *to;
    size_t done; // values
};

static double value_of(const void *data, enum dtype dtype, size_t i)
{
    double wide;
    float value;
    size_t size = dtype_size(dtype);
    if (dtype == DTYPE_F64)
        memcpy(&wide, (const uint8_t *)data + i * size, size);
    else {
        floats_read(&value, (const uint8_t *)data + i * size, dtype, 1);
        wide = value;
    }
    return wide;
}

// Writes n values as the entry's type. None may become infinite by that.
static int convert_values(struct conversion *conversion, const void *data, enum dtype dtype,
                          size_t n)
{
    const struct write_entry *entry = conversion->entry;
    size_t size = dtype_size(entry->dtype);
    if (dtype == entry->dtype)
        return conversion->write(conversion->to, data, n * size);
    float *floats = mem_new(n, sizeof *floats);
    uint8_t *out = mem_new(n, size);
    int rc = floats && out ? 0 : -1;
    if (rc == 0) {
        floats_read(floats, data, dtype, n);
        floats_write(out, entry->dtype, floats, n);
    }
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!isfinite(value_of(out, entry->dtype, i)) && isfinite(value_of(data, dtype, i)))
            rc = error_set(STATUS_DATA, "%s: tensor %s: value %zu is %g, too large for %s",
                           conversion->list->path, entry->name, conversion->done + i,
                           value_of(data, dtype, i), dtype_name(entry->dtype));
    if (rc == 0)
        rc = conversion->write(conversion->to, out, n * size);
    conversion->done += n;
    free(floats);
    free(out);
    return rc;
}

static int convert_part(struct conversion *conversion, const struct write_part *part)
{
    const struct weight *weight = part->weight;
    size_t size = row_size(weight), most = piece_rows(size);
    if (most > part->rows)
        most = part->rows;
    if (weight_check(weight) < 0)
        return error_prefix("%s", conversion->list->path);
    uint8_t *bytes = mem_new(most, size);
    int rc = bytes ? 0 : -1;
    for (size_t row = 0; rc == 0 && row < part->rows; row += most) {
        size_t n = part->rows - row < most ? part->rows - row : most;
        weight_read(weight, part->row + row, n, bytes);
        rc = convert_values(conversion, bytes, weight->dtype, n * size / dtype_size(weight->dtype));
    }
    free(bytes);
    return rc;
}

int write_list_copy(const struct write_list *list, size_t i,
                    int (*write)(void *to, const void *data, size_t size), void *to)
{
    const struct write_entry *entry = &list->entries[i];
    struct conversion conversion = {.list = list, .entry = entry, .write = write, .to = to};
    if (entry->n_parts == 0) {
        const float *values = entry->values ? entry->values : list->fetch(list->user, i);
        size_t count = 1;
        for (size_t k = 0; k < entry->rank; k++)
            count *= entry->shape[k];
        return values ? convert_values(&conversion, values, DTYPE_F32, count) : -1;
    }
    for (size_t k = 0; k < entry->n_parts; k++)
        if (convert_part(&conversion, &entry->parts[k]) < 0)
            return -1;
    return 0;
}

// Indices of the entries, those of larger elements before those of smaller.
static size_t *sort_by_size(const struct write_list *list)
{
    size_t *order = mem_new(list->n, sizeof *order), n = 0;
    for (size_t size = 8; order && size > 0; size /= 2)
        for (size_t i = 0; i < list->n; i++)
            if (dtype_size(list->entries[i].dtype) == size)
                order[n++] = i;
    return order;
}

static int build_header(const struct write_list *list, const size_t *order, const json_t *metadata,
                        uint8_t **header, size_t *size)
{
    struct safetensor *tensors = mem_new(list->n, sizeof *tensors);
    for (size_t i = 0; tensors && i < list->n; i++) {
        const struct write_entry *entry = &list->entries[order[i]];
        tensors[i] =
            (struct safetensor){.name = entry->name, .dtype = entry->dtype, .rank = entry->rank};
        memcpy(tensors[i].shape, entry->shape, sizeof entry->shape);
    }
    int rc = tensors ? safetensors_build_header(tensors, list->n, metadata, header, size) : -1;
    free(tensors);
    return rc;
}

struct summed_output {
    struct output *output; // NULL: the bytes are only added to the sum
    uint32_t sum;          // of the tensor that is written
    size_t size;
};

static int write_summed(void *to, const void *data, size_t size)
{
    struct summed_output *summed = to;
    summed->sum = checksum_add(summed->sum, data, size);
    summed->size += size;
    return summed->output ? output_write(summed->output, data, size) : 0;
}

static int write_plain(void *output, const void *data, size_t size)
{
    return output_write(output, data, size);
}

// Writes the data, unless output is NULL, and sets the header's sums.
static int write_summed_data(const struct write_list *list, const size_t *order, uint8_t *header,
                             size_t size, struct checksum_places places, struct output *output)
{
    uint32_t sum = 0;
    size_t data_size = 0;
    for (size_t i = 0; i < list->n; i++) {
        struct summed_output to = {.output = output};
        if (write_list_copy(list, order[i], write_summed, &to) < 0)
            return -1;
        if (places.parts)
            checksum_set_tensor(header, places, i, to.sum);
        sum = checksum_join(sum, to.sum, to.size);
        data_size += to.size;
        if (output && list->progress)
            list->progress(1);
    }
    checksum_finish(header, size, places, sum, data_size);
    return 0;
}

static int write_data(const struct write_list *list, const size_t *order, struct output *output)
{
    for (size_t i = 0; i < list->n; i++) {
        if (write_list_copy(list, order[i], write_plain, output) < 0)
            return -1;
        if (list->progress)
            list->progress(1);
    }
    return 0;
}

// The checksums stand before the data that they are of. A file gets them at the end; for a pipe the
// data are read twice.
static int write_document(const struct write_list *list, const size_t *order, uint8_t *header,
                          size_t size, struct output *output)
{
    const struct checksum_places places = checksum_find(header, size, list->n);
    if (places.whole && output_can_rewrite(output))
        return output_write(output, header, size) < 0 ||
                       write_summed_data(list, order, header, size, places, output) < 0
                   ? -1
                   : output_write_at(output, header, size, 0);
    if (places.whole && write_summed_data(list, order, header, size, places, NULL) < 0)
        return -1;
    return output_write(output, header, size) < 0 ? -1 : write_data(list, order, output);
}

// The metadata, with room for the tensors' sums if it reserves that of the file. NULL with an
// error.
static json_t *reserve_sums(const struct write_list *list, const json_t *metadata)
{
    json_t *copy = metadata ? json_copy((json_t *)metadata) : json_object();
    if (!copy)
        error_set(STATUS_INTERNAL, "no memory for the metadata");
    else if (json_object_get(copy, CHECKSUM_KEY) && checksum_reserve_parts(copy, list->n) < 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

int write_list_safetensors(const struct write_list *list, const json_t *metadata,
                           struct output *output)
{
    size_t *order = sort_by_size(list), size = 0;
    uint8_t *header = NULL;
    json_t *all = order ? reserve_sums(list, metadata) : NULL;
    int rc = all ? build_header(list, order, all, &header, &size) : -1;
    if (rc == 0)
        rc = write_document(list, order, header, size, output);
    json_decref(all);
    free(header);
    free(order);
    return rc;
}
