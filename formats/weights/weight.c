// Reads tensors of any strides, run by run. SPDX-License-Identifier: MIT
#include "formats/weights/weight.h"

#include <assert.h>
#include <stdalign.h>
#include <stdbool.h>
#include <string.h>

#include "formats/weights/weight-sums.h"
#include "lib/base/error.h"

size_t weight_count(const struct weight *weight)
{
    size_t count = 1; // the readers of files have checked that the product fits
    for (size_t i = 0; i < weight->rank; i++)
        count *= weight->shape[i];
    return count;
}

size_t weight_rows(const struct weight *weight)
{
    return weight->rank ? weight->shape[0] : 1;
}

// The length of the runs of adjacent elements, one for each index of the first `*outer` dimensions.
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

// Calls copy_run for every run of these rows, in C order, until one fails. copy_run moves *to on.
static int read_runs(const struct weight *weight, size_t row, size_t rows,
                     int (*copy_run)(const struct weight *weight, const uint8_t *from, size_t n,
                                     void **to),
                     void *to)
{
    const size_t size = dtype_size(weight->dtype);
    size_t outer, run = run_length(weight, &outer), index[TENSOR_RANK_MAX] = {row};
    assert(rows <= weight_rows(weight) - row);
    if (rows == 0 || weight_count(weight) == 0)
        return 0;
    if (is_in_order(weight)) {
        run *= outer ? rows : 1;
        return copy_run(weight, weight->data + (outer ? row * weight->strides[0] * size : 0), run,
                        &to);
    }
    for (;;) {
        size_t offset = 0, i = outer;
        for (size_t k = 0; k < outer; k++)
            offset += index[k] * weight->strides[k];
        if (copy_run(weight, weight->data + offset * size, run, &to) < 0)
            return -1;
        while (i > 0 && ++index[i - 1] == (i == 1 ? row + rows : weight->shape[i - 1]))
            index[--i] = 0;
        if (i == 0)
            return 0;
    }
}

static int copy_floats(const struct weight *weight, const uint8_t *from, size_t n, void **to)
{
    float *out = *to;
    *to = out + n;
    return floats_read(out, from, weight->dtype, n);
}

static int copy_bytes(const struct weight *weight, const uint8_t *from, size_t n, void **to)
{
    size_t size = n * dtype_size(weight->dtype);
    memcpy(*to, from, size);
    *to = (uint8_t *)*to + size;
    return 0;
}

static int name_tensor(const struct weight *weight)
{
    char name[ERROR_SHOWN_SIZE];
    return error_prefix("tensor \"%s\"", error_shown(weight->name, strlen(weight->name), name));
}

int weight_check(const struct weight *weight)
{
    if (weight->sums && weight_sums_check(weight->sums, weight->number, weight->data,
                                          weight_count(weight) * dtype_size(weight->dtype)) < 0)
        return name_tensor(weight);
    return 0;
}

int weight_read_floats(const struct weight *weight, size_t row, size_t rows, float *out)
{
    if (weight_check(weight) < 0)
        return -1;
    return read_runs(weight, row, rows, copy_floats, out) < 0 ? name_tensor(weight) : 0;
}

void weight_read(const struct weight *weight, size_t row, size_t rows, void *out)
{
    read_runs(weight, row, rows, copy_bytes, out);
}

const float *weight_in_place(const struct weight *weight)
{
    if (weight->dtype != DTYPE_F32 || (uintptr_t)weight->data % alignof(float) ||
        !is_in_order(weight))
        return NULL;
    return (const float *)(uintptr_t)weight->data;
}
