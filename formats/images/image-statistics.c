// Reads statistics of images' features from archives. SPDX-License-Identifier: MIT
#include "formats/images/image-statistics.h"

#include <inttypes.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

static double *read_doubles(const struct arrays *arrays, const char *name, const size_t *shape,
                            size_t rank)
{
    struct array *array = array_expect(arrays, name, DTYPE_F64, shape, rank);
    double *values = array ? mem_new(array->npy.count, sizeof *values) : NULL;
    if (values && array_read(array, values, array->npy.count) < 0) {
        free(values);
        values = NULL;
    }
    array_close(array);
    return values;
}

int image_statistics_read(struct image_statistics *s, const struct arrays *arrays, const char *mean,
                          const char *covariance, size_t D)
{
    struct array *array = array_expect(arrays, mean, DTYPE_F64, (const size_t[]){0}, 1);
    *s = (struct image_statistics){.D = array ? array->npy.shape[0] : 0};
    array_close(array);
    if (!array)
        return -1;
    if (D && s->D != D)
        return error_set(STATUS_DATA, "%s: expected %s of [%zu], found [%zu]", arrays->path, mean,
                         D, s->D);
    s->mean = read_doubles(arrays, mean, &s->D, 1);
    if (s->mean)
        s->covariance = read_doubles(arrays, covariance, (const size_t[]){s->D, s->D}, 2);
    if (s->covariance)
        return 0;
    image_statistics_free(s);
    return -1;
}

void image_statistics_free(struct image_statistics *s)
{
    free(s->mean);
    free(s->covariance);
    *s = (struct image_statistics){0};
}

// Whole numbers above 0, of shape (n).
static int read_numbers(const struct arrays *arrays, const char *name, int64_t *to, size_t n)
{
    struct array *array = array_expect(arrays, name, DTYPE_I64, &n, 1);
    int rc = array ? array_read(array, to, n) : -1;
    array_close(array);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (to[i] < 1)
            rc = error_set(STATUS_DATA, "%s: expected a %s above 0, found %" PRId64, arrays->path,
                           name, to[i]);
    return rc;
}

int image_origin_read(struct image_origin *origin, const struct arrays *arrays)
{
    int64_t count = 0, sides[2] = {0, 0};
    *origin = (struct image_origin){0};
    if (arrays_have(arrays, "arr_0")) {
        struct array *images =
            array_expect(arrays, "arr_0", DTYPE_U8, (const size_t[]){0, 0, 0, 3}, 4);
        if (!images)
            return -1;
        origin->stored = images->npy.shape[0];
        sides[0] = (int64_t)images->npy.shape[1];
        sides[1] = (int64_t)images->npy.shape[2];
        array_close(images);
    }
    if ((arrays_have(arrays, "count") && read_numbers(arrays, "count", &count, 1) < 0) ||
        (arrays_have(arrays, "image_size") && read_numbers(arrays, "image_size", sides, 2) < 0))
        return -1;
    origin->count = (uint64_t)count;
    origin->height = (size_t)sides[0];
    origin->width = (size_t)sides[1];
    return 0;
}
