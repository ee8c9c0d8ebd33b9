// Finds and reads fast-DiT's features without trust in their names, types or shapes.
// SPDX-License-Identifier: MIT
#include "formats/latents/features.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/npy.h"
#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define LATENT_SIZE_MAX ((size_t)64 << 20) // bytes; the latent of a 1024x1024 image has 256 KiB
#define LABEL_MAX       ((1 << 24) - 1)    // the most classes of a model, less one

// Calls `visit` for each name in the folder until it fails.
static int visit_names(const char *folder, int (*visit)(void *user, const char *name), void *user)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot open", folder);
    struct dirent *entry;
    int rc = 0;
    while (rc == 0 && (errno = 0, entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = visit(user, entry->d_name);
    if (rc == 0 && errno)
        rc = error_set_errno(STATUS_NO_INPUT, "%s: cannot read", folder);
    closedir(dir);
    return rc;
}

struct number_scan {
    struct features *features;
    const char *folder;
    void (*stray)(const char *path);
};

// Parses "NUMBER.npy". The number must be written as printf does, so that no two names share one.
static bool parse_number_name(const char *name, uint64_t *number)
{
    char again[32];
    if (sscanf(name, "%20" SCNu64, number) != 1)
        return false;
    snprintf(again, sizeof again, "%" PRIu64 ".npy", *number);
    return strcmp(name, again) == 0;
}

static int collect_number(void *user, const char *name)
{
    struct number_scan *scan = user;
    struct features *f = scan->features;
    uint64_t number;
    if (!parse_number_name(name, &number)) {
        char *path = mem_printf("%s/%s", scan->folder, name);
        if (!path)
            return -1;
        error_set(STATUS_DATA, "expected a file NUMBER.npy");
        scan->stray(path);
        free(path);
        return 0;
    }
    if (mem_grow(&f->numbers, f->n, 1, sizeof *f->numbers) < 0)
        return -1;
    f->numbers[f->n++] = number;
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int find_numbers(struct features *f, void (*stray)(const char *path))
{
    struct number_scan scan = {.features = f, .folder = f->latents, .stray = stray};
    if (visit_names(f->latents, collect_number, &scan) < 0)
        return -1;
    if (f->n == 0)
        return error_set(STATUS_DATA, "%s: expected files NUMBER.npy, found none", f->latents);
    scan.folder = f->labels;
    if (visit_names(f->labels, collect_number, &scan) < 0)
        return -1;
    qsort(f->numbers, f->n, sizeof *f->numbers, compare_numbers);
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        if (i == 0 || f->numbers[i] != f->numbers[i - 1])
            f->numbers[n++] = f->numbers[i];
    f->n = n;
    return 0;
}

// The search for a folder's only "NAME_features".
struct folder_search {
    const char *folder;
    char *name; // found, or NULL
};

static int match_features(void *user, const char *name)
{
    static const char ending[] = "_features";
    struct folder_search *search = user;
    size_t length = strlen(name), tail = sizeof ending - 1;
    if (length < tail || strcmp(name + length - tail, ending) != 0)
        return 0;
    if (search->name)
        return error_set(STATUS_USAGE,
                         "%s: expected one folder NAME_features, found %s and %s; name one of them "
                         "and its labels",
                         search->folder, search->name, name);
    search->name = mem_strdup(name);
    return search->name ? 0 : -1;
}

static int find_folders(struct features *f, const char *folder)
{
    struct folder_search search = {.folder = folder};
    int rc = visit_names(folder, match_features, &search);
    if (rc == 0 && !search.name)
        rc = error_set(STATUS_NO_INPUT, "%s: expected a folder NAME_features in it, found none",
                       folder);
    if (rc == 0) {
        int stem = (int)(strlen(search.name) - strlen("features"));
        f->latents = mem_printf("%s/%s", folder, search.name);
        f->labels = mem_printf("%s/%.*slabels", folder, stem, search.name);
        rc = f->latents && f->labels ? 0 : -1;
    }
    free(search.name);
    return rc;
}

// The shape (C, h, w) of an array of floats (1, C, h, w) or (C, h, w). -1 with an error for other
// arrays.
static int latent_shape(const struct npy *npy, const char *path, size_t shape[3])
{
    char text[128];
    bool batch = npy->rank == 4 && npy->shape[0] == 1;
    bool floats = npy->dtype == DTYPE_F32 || npy->dtype == DTYPE_F16 || npy->dtype == DTYPE_F64;
    if ((npy->rank != 3 && !batch) || !floats || npy->count == 0)
        return error_set(STATUS_DATA, "%s: expected floats of [1, C, h, w], found %s %s", path,
                         dtype_name(npy->dtype),
                         shape_text(npy->shape, npy->rank, text, sizeof text));
    memcpy(shape, npy->shape + batch, 3 * sizeof *shape);
    return 0;
}

static char *file_path(const char *folder, uint64_t number)
{
    return mem_printf("%s/%" PRIu64 ".npy", folder, number);
}

// Finds the first latent that can be read, and its shape.
static int find_shape(struct features *f)
{
    struct error first;
    for (size_t i = 0; i < f->n; i++) {
        char *path = file_path(f->latents, f->numbers[i]);
        struct npy npy;
        if (!path)
            return -1;
        int rc = npy_read(&npy, path, LATENT_SIZE_MAX);
        if (rc == 0) {
            rc = latent_shape(&npy, path, f->shape);
            f->count = npy.count;
            npy_free(&npy);
        }
        free(path);
        if (rc == 0)
            return 0;
        if (i == 0)
            error_save(&first);
    }
    error_restore(&first);
    return error_prefix("none of %zu latents can be read; the first", f->n);
}

int features_open(struct features *f, char **folders, void (*stray)(const char *path))
{
    *f = (struct features){0};
    int rc = 0;
    if (folders[1]) {
        f->latents = mem_strdup(folders[0]);
        f->labels = mem_strdup(folders[1]);
        rc = f->latents && f->labels ? 0 : -1;
    } else {
        rc = find_folders(f, folders[0]);
    }
    if (rc == 0 && (find_numbers(f, stray) < 0 || find_shape(f) < 0))
        rc = -1;
    if (rc < 0)
        features_close(f);
    return rc;
}

void features_close(struct features *f)
{
    free(f->latents);
    free(f->labels);
    free(f->numbers);
    *f = (struct features){0};
}

char *features_path(const struct features *f, uint64_t number)
{
    return file_path(f->latents, number);
}

static int read_latent(const struct features *f, const char *path, float *latent)
{
    struct npy npy;
    size_t shape[3];
    if (npy_read(&npy, path, f->count * sizeof(double)) < 0)
        return -1;
    int rc = latent_shape(&npy, path, shape);
    if (rc == 0 && memcmp(shape, f->shape, sizeof shape) != 0) {
        char text[64], wanted[64];
        rc = error_set(STATUS_DATA, "%s: expected a latent of %s like the first, found %s", path,
                       shape_text(f->shape, 3, wanted, sizeof wanted),
                       shape_text(shape, 3, text, sizeof text));
    }
    if (rc == 0)
        rc = floats_read(latent, npy.data, npy.dtype, npy.count);
    npy_free(&npy);
    return rc;
}

// Reads a single integer, an array of shape (1) or ().
static int read_label(const char *path, int64_t *label)
{
    struct npy npy;
    if (npy_read(&npy, path, sizeof(int64_t)) < 0)
        return -1;
    char text[128];
    enum dtype dtype = npy.dtype;
    bool with_sign =
        dtype == DTYPE_I8 || dtype == DTYPE_I16 || dtype == DTYPE_I32 || dtype == DTYPE_I64;
    bool whole = dtype != DTYPE_F16 && dtype != DTYPE_F32 && dtype != DTYPE_F64;
    int rc = 0;
    if (!whole || npy.rank > 1 || npy.count != 1) {
        rc = error_set(STATUS_DATA, "%s: expected an integer of shape [1], found %s %s", path,
                       dtype_name(dtype), shape_text(npy.shape, npy.rank, text, sizeof text));
    } else {
        size_t size = dtype_size(dtype), unused = 64 - 8 * size;
        uint64_t bits = get_le(npy.data, size);
        double value = with_sign ? (double)((int64_t)(bits << unused) >> unused) : (double)bits;
        if (value < 0 || value > LABEL_MAX)
            rc = error_set(STATUS_DATA, "%s: expected a label from 0 to %d, found %.10g", path,
                           LABEL_MAX, value);
        *label = (int64_t)bits;
    }
    npy_free(&npy);
    return rc;
}

int features_read(const struct features *f, uint64_t number, float *latent, int64_t *label)
{
    char *latent_path = file_path(f->latents, number), *label_path = file_path(f->labels, number);
    int rc = latent_path && label_path ? read_label(label_path, label) : -1;
    if (rc == 0)
        rc = read_latent(f, latent_path, latent);
    free(latent_path);
    free(label_path);
    return rc;
}
