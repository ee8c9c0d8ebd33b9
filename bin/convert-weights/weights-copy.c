// SPDX-License-Identifier: MIT
#include "bin/convert-weights/weights-copy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/checksum.h"
#include "formats/containers/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define PIECE_SIZE ((size_t)4 << 20) // bytes in memory at once, or one row

void copies_free(struct copies *copies)
{
    free(copies->all);
    copies->all = NULL;
    copies->n = 0;
}

static bool is_floating(enum dtype dtype)
{
    return dtype == DTYPE_F16 || dtype == DTYPE_BF16 || dtype == DTYPE_F32 || dtype == DTYPE_F64;
}

static int check_floating(const struct copies *copies, const struct weight *weight)
{
    if (is_floating(weight->dtype))
        return 0;
    return error_set(STATUS_DATA, "%s: tensor %s is of type %s, expected floats", copies->path,
                     weight->name, dtype_name(weight->dtype));
}

// A new entry, without parts. NULL with an error.
static struct copy *add(struct copies *copies, const char *prefix, const char *name,
                        enum dtype dtype, const size_t *shape, size_t rank)
{
    if (mem_grow(&copies->all, copies->n, 1, sizeof *copies->all) < 0)
        return NULL;
    struct copy *copy = &copies->all[copies->n++];
    *copy =
        (struct copy){.dtype = copies->dtype == DTYPE_COUNT ? dtype : copies->dtype, .rank = rank};
    snprintf(copy->name, sizeof copy->name, "%s%s", prefix, name);
    if (rank)
        memcpy(copy->shape, shape, rank * sizeof *shape);
    return copy;
}

static size_t rows_of(const struct weight *weight)
{
    return weight->rank ? weight->shape[0] : 1;
}

int copies_add(struct copies *copies, const char *prefix, const char *name,
               const struct weight *weight)
{
    if (check_floating(copies, weight) < 0)
        return -1;
    struct copy *copy = add(copies, prefix, name, weight->dtype, weight->shape, weight->rank);
    if (!copy)
        return -1;
    copy->n_parts = 1;
    copy->parts[0] = (struct copy_part){weight, 0, rows_of(weight)};
    return 0;
}

int copies_add_values(struct copies *copies, const char *prefix, const char *name,
                      const size_t *shape, size_t rank, const float *values)
{
    struct copy *copy = add(copies, prefix, name, DTYPE_F32, shape, rank);
    if (!copy)
        return -1;
    copy->values = values;
    return 0;
}

static size_t row_size(const struct weight *weight)
{
    return weight_count(weight) / rows_of(weight) * dtype_size(weight->dtype);
}

static size_t piece_rows(size_t size)
{
    return size < PIECE_SIZE ? PIECE_SIZE / size : 1;
}

// Two tensors of the same shape hold the same.
static int check_same(const struct copies *copies, const struct weight *a, const struct weight *b)
{
    size_t rows = rows_of(a), size = row_size(a), most = piece_rows(size);
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
                            "%s: tensors %s and %s are not the same; the model has one for all",
                            copies->path, a->name, b->name);
}

static int check_parts(const struct copies *copies, const struct binding *from, size_t first,
                       size_t end)
{
    const struct name_part *parts = from->naming->parts;
    for (size_t p = first; p < end; p++) {
        const struct weight *weight = from->tensors[p], *before = from->tensors[p - (p > first)];
        if (check_floating(copies, weight) < 0)
            return -1;
        if (p > first && parts[p].row == parts[p - 1].row) {
            if (check_same(copies, before, weight) < 0)
                return -1;
        } else if (weight->dtype != before->dtype)
            return error_set(STATUS_DATA, "%s: tensor %s is of type %s, %s of type %s",
                             copies->path, before->name, dtype_name(before->dtype), weight->name,
                             dtype_name(weight->dtype));
    }
    return 0;
}

// Finds the rows of a part of `to` in the parts first .. end - 1 of the file.
static void find_rows(struct copy *copy, const struct name_part *part, const struct binding *from,
                      size_t first, size_t end)
{
    size_t row = part->row, stop = part->row + part->rows;
    for (size_t p = first; p < end && row < stop; p++) {
        const struct name_part *source = &from->naming->parts[p];
        if (row < source->row || row >= source->row + source->rows)
            continue;
        size_t last = source->row + source->rows < stop ? source->row + source->rows : stop;
        copy->parts[copy->n_parts++] =
            (struct copy_part){from->tensors[p], row - source->row, last - row};
        row = last;
    }
}

int copies_add_param(struct copies *copies, const char *prefix, const struct naming *to,
                     const struct binding *from, size_t i)
{
    size_t first, end, first_to, end_to;
    naming_find_parts(from->naming, i, &first, &end);
    naming_find_parts(to, i, &first_to, &end_to);
    if (check_parts(copies, from, first, end) < 0)
        return -1;
    for (size_t p = first_to; p < end_to; p++) {
        size_t shape[TENSOR_RANK_MAX], rank = naming_part_shape(to, &to->parts[p], shape);
        struct copy *copy =
            add(copies, prefix, to->parts[p].name, from->tensors[first]->dtype, shape, rank);
        if (!copy)
            return -1;
        find_rows(copy, &to->parts[p], from, first, end);
    }
    return 0;
}

// Where values go, and room to make them what they will be.
struct passage {
    const struct copies *copies;
    const struct copy *copy;
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

// n values of some type, which the writing must not make infinite.
static int pass(struct passage *passage, const void *data, enum dtype dtype, size_t n)
{
    const struct copy *copy = passage->copy;
    size_t size = dtype_size(copy->dtype);
    if (dtype == copy->dtype)
        return passage->write(passage->to, data, n * size);
    float *floats = mem_new(n, sizeof *floats);
    uint8_t *out = mem_new(n, size);
    int rc = floats && out ? 0 : -1;
    if (rc == 0) {
        floats_read(floats, data, dtype, n);
        floats_write(out, copy->dtype, floats, n);
    }
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!isfinite(value_of(out, copy->dtype, i)) && isfinite(value_of(data, dtype, i)))
            rc = error_set(STATUS_DATA, "%s: tensor %s: value %zu is %g, too large for %s",
                           passage->copies->path, copy->name, passage->done + i,
                           value_of(data, dtype, i), dtype_name(copy->dtype));
    if (rc == 0)
        rc = passage->write(passage->to, out, n * size);
    passage->done += n;
    free(floats);
    free(out);
    return rc;
}

static int pass_part(struct passage *passage, const struct copy_part *part)
{
    const struct weight *weight = part->weight;
    size_t size = row_size(weight), most = piece_rows(size);
    if (most > part->rows)
        most = part->rows;
    uint8_t *bytes = mem_new(most, size);
    int rc = bytes ? 0 : -1;
    for (size_t row = 0; rc == 0 && row < part->rows; row += most) {
        size_t n = part->rows - row < most ? part->rows - row : most;
        weight_read(weight, part->row + row, n, bytes);
        rc = pass(passage, bytes, weight->dtype, n * size / dtype_size(weight->dtype));
    }
    free(bytes);
    return rc;
}

int copy_run(const struct copies *copies, const struct copy *copy,
             int (*write)(void *to, const void *data, size_t size), void *to)
{
    struct passage passage = {.copies = copies, .copy = copy, .write = write, .to = to};
    if (copy->values) {
        size_t count = 1;
        for (size_t i = 0; i < copy->rank; i++)
            count *= copy->shape[i];
        return pass(&passage, copy->values, DTYPE_F32, count);
    }
    for (size_t i = 0; i < copy->n_parts; i++)
        if (pass_part(&passage, &copy->parts[i]) < 0)
            return -1;
    return 0;
}

static int write_output(void *output, const void *data, size_t size)
{
    return output_write(output, data, size);
}

// Indices of the tensors, those of larger elements before those of smaller.
static size_t *sort_by_size(const struct copies *copies)
{
    size_t *order = mem_new(copies->n, sizeof *order), n = 0;
    for (size_t size = 8; order && size > 0; size /= 2)
        for (size_t i = 0; i < copies->n; i++)
            if (dtype_size(copies->all[i].dtype) == size)
                order[n++] = i;
    return order;
}

static int build_header(const struct copies *copies, const size_t *order, const json_t *metadata,
                        uint8_t **header, size_t *size)
{
    struct safetensor *tensors = mem_new(copies->n, sizeof *tensors);
    for (size_t i = 0; tensors && i < copies->n; i++) {
        const struct copy *copy = &copies->all[order[i]];
        tensors[i] =
            (struct safetensor){.name = copy->name, .dtype = copy->dtype, .rank = copy->rank};
        memcpy(tensors[i].shape, copy->shape, sizeof copy->shape);
    }
    int rc = tensors ? safetensors_build_header(tensors, copies->n, metadata, header, size) : -1;
    free(tensors);
    return rc;
}

static int add_to_sum(void *sum, const void *data, size_t size)
{
    *(uint32_t *)sum = checksum_add(*(uint32_t *)sum, data, size);
    return 0;
}

// The checksum comes before what it is of: all is passed over twice.
static int set_checksum(const struct copies *copies, const size_t *order, uint8_t *header,
                        size_t size)
{
    size_t at = checksum_find(header, size);
    char digits[CHECKSUM_DIGITS + 1];
    uint32_t sum = checksum_add(0, header, size);
    for (size_t i = 0; at && i < copies->n; i++)
        if (copy_run(copies, &copies->all[order[i]], add_to_sum, &sum) < 0)
            return -1;
    checksum_text(sum, digits);
    if (at)
        memcpy(header + at, digits, CHECKSUM_DIGITS);
    return 0;
}

int copies_write_safetensors(const struct copies *copies, const json_t *metadata,
                             struct output *output)
{
    size_t *order = sort_by_size(copies), size;
    uint8_t *header = NULL;
    int rc = order && build_header(copies, order, metadata, &header, &size) == 0 &&
                     set_checksum(copies, order, header, size) == 0
                 ? output_write(output, header, size)
                 : -1;
    for (size_t i = 0; rc == 0 && i < copies->n; i++) {
        rc = copy_run(copies, &copies->all[order[i]], write_output, output);
        progress_add(1);
    }
    free(header);
    free(order);
    return rc;
}
