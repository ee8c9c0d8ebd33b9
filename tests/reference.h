// Reading reference data in tests. SPDX-License-Identifier: MIT
#ifndef DIT_REFERENCE_H
#define DIT_REFERENCE_H

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "formats/containers/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "tests/tap.h"

// Ends the test with the message that is set.
__attribute__((noreturn)) static inline void bail_out(void)
{
    printf("Bail out! %s\n", error_message());
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
    skip(name, "not in the folder of reference data");
    return false;
}

static inline struct safetensors reference_open(const char *name)
{
    struct safetensors doc;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", reference_dir(), name);
    if (safetensors_open(&doc, path) < 0)
        bail_out();
    return doc;
}

// A tensor as float32, malloc'd; *count elements if not NULL.
static inline float *reference_floats(const struct safetensors *doc, const char *name,
                                      size_t *count)
{
    const struct safetensor *t = safetensors_find(doc, name);
    size_t n = 0;
    if (!t || !shape_count(t->shape, t->rank, &n)) {
        error_set(STATUS_DATA, "no tensor %s in the reference data", name);
        bail_out();
    }
    float *values = mem_new(n ? n : 1, sizeof *values);
    if (!values || safetensors_floats(doc, name, t->shape, t->rank, values) < 0)
        bail_out();
    if (count)
        *count = n;
    return values;
}

// An I64 tensor, in place of the mapping (copied for its alignment).
static inline int64_t *reference_ints(const struct safetensors *doc, const char *name,
                                      size_t *count)
{
    const struct safetensor *t = safetensors_find(doc, name);
    int64_t *values = t && t->dtype == DTYPE_I64 ? mem_new(t->size / 8 + 1, 8) : NULL;
    if (!values) {
        error_set(STATUS_DATA, "no I64 tensor %s in the reference data", name);
        bail_out();
    }
    memcpy(values, safetensors_data(doc, t), t->size);
    if (count)
        *count = t->size / 8;
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
