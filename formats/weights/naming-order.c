// Binds tensors that a file numbers in the order of the model's parameters.
// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/naming.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

// Finds the tensor that belongs to one of the model's. NULL with an error.
static const struct weight *find_companion(const struct weights *file, const char *name,
                                           const struct weight *of)
{
    const struct weight *found = weights_find(file, name);
    const char *type = weights_unsupported(file, name);
    char expected[128], shape[128];
    if (!found)
        error_set(STATUS_DATA,
                  type ? "%s: tensor %s for %s is of type %s, which is not supported"
                       : "%s: no tensor %s; expected, for %s",
                  file->path, name, of->name, type);
    else if (found->rank != of->rank ||
             memcmp(found->shape, of->shape, of->rank * sizeof *of->shape) != 0)
        error_set(STATUS_DATA, "%s: tensor %s has shape %s, expected %s, that of %s", file->path,
                  name, shape_text(found->shape, found->rank, shape, sizeof shape),
                  shape_text(of->shape, of->rank, expected, sizeof expected), of->name);
    else
        return found;
    return NULL;
}

static int begin(struct binding *binding, const struct binding *model)
{
    *binding = (struct binding){.naming = model->naming, .file = model->file};
    binding->tensors = mem_new(model->naming->n, sizeof *binding->tensors);
    return binding->tensors ? 0 : -1;
}

int binding_number(struct binding *binding, const struct binding *model, const char *model_prefix,
                   const char *prefix, const char *kind)
{
    const struct weights *file = model->file;
    size_t first = 0;
    while (first < file->n_weights &&
           strncmp(file->all[first].name, model_prefix, strlen(model_prefix)) != 0)
        first++;
    int rc = begin(binding, model);
    for (size_t i = 0; rc == 0 && i < model->naming->n; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s%zu.%s", prefix,
                 (size_t)(model->tensors[i] - file->all) - first, kind);
        binding->tensors[i] = find_companion(file, name, model->tensors[i]);
        rc = binding->tensors[i] ? 0 : -1;
    }
    if (rc < 0)
        binding_free(binding);
    return rc;
}

static int compare_pointers(const void *a, const void *b)
{
    const struct weight *x = *(const struct weight *const *)a,
                        *y = *(const struct weight *const *)b;
    return x < y ? -1 : x > y;
}

// How many of the model's tensors come before this one.
static size_t order_of(const struct weight *const *sorted, size_t n, const struct weight *weight)
{
    const struct weight *const *found =
        bsearch(&weight, sorted, n, sizeof *sorted, compare_pointers);
    return (size_t)(found - sorted);
}

static size_t count_list(const struct weights *file, const char *prefix)
{
    char name[256];
    for (size_t n = 0;; n++) {
        snprintf(name, sizeof name, "%s%zu", prefix, n);
        if (!weights_find(file, name))
            return n;
    }
}

int binding_list(struct binding *binding, const struct binding *model, const char *prefix,
                 const struct weight *positions)
{
    const struct weights *file = model->file;
    size_t n = model->tensors ? model->naming->n : 0, given = count_list(file, prefix);
    if (n == 0 || (given != n && !(positions && given == n + 1)))
        return error_set(STATUS_DATA,
                         "%s: %s* are %zu tensors, expected one for each of %zu weights",
                         file->path, prefix, given, n);
    const struct weight **sorted = mem_new(given, sizeof *sorted);
    int rc = sorted ? begin(binding, model) : -1;
    if (rc == 0) {
        memcpy(sorted, model->tensors, n * sizeof *sorted);
        if (given > n)
            sorted[n] = positions;
        qsort(sorted, given, sizeof *sorted, compare_pointers);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s%zu", prefix, order_of(sorted, given, model->tensors[i]));
        binding->tensors[i] = find_companion(file, name, model->tensors[i]);
        rc = binding->tensors[i] ? 0 : -1;
    }
    free(sorted);
    if (rc < 0)
        binding_free(binding);
    return rc;
}
