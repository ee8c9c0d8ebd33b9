// Reading reference data in tests. SPDX-License-Identifier: MIT
#ifndef DIT_REFERENCE_H
#define DIT_REFERENCE_H

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "formats/weights/weights.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "tests/tap.h"

// Ends the test, which fails, with the message that is set.
__attribute__((noreturn)) static inline void bail_out(void)
{
    ok(false, "can't go on: %s", error_message());
    exit(1);
}

// Whether a file is there; if not, a test is skipped: tests/data holds less than the full
// reference.
static inline bool reference_has(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", reference_dir(), name);
    if (access(path, R_OK) == 0)
        return true;
    snprintf(path, sizeof path, "agrees with %s", name);
    skip(path, "not in the folder of reference data");
    return false;
}

static inline struct weights reference_open(const char *name)
{
    static char path[4096]; // of the last file, for messages
    struct weights file;
    snprintf(path, sizeof path, "%s/%s.safetensors", reference_dir(), name);
    if (weights_open(&file, path) < 0)
        bail_out();
    return file;
}

static inline const struct weight *reference_find(const struct weights *file, const char *name)
{
    const struct weight *tensor = weights_find(file, name);
    if (!tensor) {
        error_set(STATUS_DATA, "no tensor %s in the reference data", name);
        bail_out();
    }
    return tensor;
}

// A tensor as float32, malloc'd; *count elements if not NULL.
static inline float *reference_floats(const struct weights *file, const char *name, size_t *count)
{
    const struct weight *tensor = reference_find(file, name);
    float *values = mem_new(weight_count(tensor), sizeof *values);
    if (!values || weight_read_floats(tensor, 0, weight_rows(tensor), values) < 0)
        bail_out();
    if (count)
        *count = weight_count(tensor);
    return values;
}

// An I64 tensor, malloc'd; *count elements if not NULL.
static inline int64_t *reference_ints(const struct weights *file, const char *name, size_t *count)
{
    const struct weight *tensor = reference_find(file, name);
    int64_t *values = mem_new(weight_count(tensor), sizeof *values);
    if (!values || tensor->dtype != DTYPE_I64) {
        error_set(STATUS_DATA, "tensor %s of the reference data is not I64", name);
        bail_out();
    }
    weight_read(tensor, 0, weight_rows(tensor), values);
    if (count)
        *count = weight_count(tensor);
    return values;
}

// ||a - b|| / ||b||; infinite if anything is not a number.
static inline double relative_error(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    double error = sqrt(difference / (norm > 0 ? norm : 1));
    return isfinite(error) ? error : INFINITY;
}

#endif
