// Finds and reads extracted features without trust in their names, types or shapes.
// SPDX-License-Identifier: MIT
#include "formats/latents/features.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/containers/npy.h"
#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"

#define SUFFIX          ".npy"
#define LIST            "dataset.json"
#define LIST_SIZE_MAX   ((size_t)256 << 20) // bytes; ImageNet's has 60 MB
#define SPREAD_CHANNELS 4                   // of the Stable Diffusion autoencoder
#define LATENT_SIZE_MAX ((size_t)64 << 20)  // bytes; the latent of a 1024x1024 image has 256 KiB
#define LABEL_MAX       ((1 << 24) - 1)     // the most classes of a model, less one

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

#define FOLDERS_MAX 16 // within each other

struct name_scan {
    struct features *features;
    const char *root;  // a folder of latents or labels
    const char *below; // the folder to read, below root; "" for root itself
    int depth;
    bool listed; // the labels are in a file
    void (*stray)(const char *path);
};

static int scan_folder(const struct name_scan *scan);

static bool has_suffix(const char *name)
{
    size_t length = strlen(name), tail = strlen(SUFFIX);
    return length > tail && strcmp(name + length - tail, SUFFIX) == 0;
}

// Adds the name of a file, which has_suffix.
static int features_add_name(struct features *f, const char *file)
{
    if (mem_grow(&f->names, f->n, 1, sizeof *f->names) < 0 ||
        !(f->names[f->n] = mem_printf("%.*s", (int)(strlen(file) - strlen(SUFFIX)), file)))
        return -1;
    f->n++;
    return 0;
}

static bool is_folder_at(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// The file or folder `name` at `path`, which is `below` the root.
static int collect_path(const struct name_scan *scan, const char *name, const char *path,
                        const char *below)
{
    bool hidden = *name == '.';
    if (!hidden && has_suffix(name))
        return features_add_name(scan->features, below);
    if (scan->listed && strcmp(below, LIST) == 0)
        return 0;
    struct name_scan inner = *scan;
    inner.below = below;
    inner.depth++;
    if (!hidden && inner.depth < FOLDERS_MAX && is_folder_at(path))
        return scan_folder(&inner);
    error_set(STATUS_DATA, "expected a file NAME" SUFFIX);
    scan->stray(path);
    return 0;
}

static int collect_name(void *user, const char *name)
{
    const struct name_scan *scan = user;
    char *below = *scan->below ? path_join(scan->below, name) : mem_strdup(name);
    char *path = below ? path_join(scan->root, below) : NULL;
    int rc = path ? collect_path(scan, name, path, below) : -1;
    free(below);
    free(path);
    return rc;
}

static int scan_folder(const struct name_scan *scan)
{
    struct name_scan here = *scan;
    char *path = *scan->below ? path_join(scan->root, scan->below) : mem_strdup(scan->root);
    int rc = path ? visit_names(path, collect_name, &here) : -1;
    free(path);
    return rc;
}

static bool is_ascii_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Compares the numbers that two texts begin with, and goes behind them.
static int compare_numbers(const char **a, const char **b)
{
    const char *x = *a + strspn(*a, "0"), *y = *b + strspn(*b, "0");
    size_t m = strspn(x, "0123456789"), n = strspn(y, "0123456789");
    *a = x + m;
    *b = y + n;
    return m != n ? (m > n) - (m < n) : strncmp(x, y, n);
}

// Numbers within names are compared as such. Names that differ in leading zeros alone come in the
// order of their bytes.
static int compare_feature_names(const void *left, const void *right)
{
    const char *a = *(char *const *)left, *b = *(char *const *)right;
    int order = 0;
    while (order == 0 && *a && *b) {
        if (is_ascii_digit(*a) && is_ascii_digit(*b)) {
            order = compare_numbers(&a, &b);
        } else {
            order = (unsigned char)*a - (unsigned char)*b;
            a++, b++;
        }
    }
    if (order == 0)
        order = (*a != 0) - (*b != 0);
    return order ? order : strcmp(*(char *const *)left, *(char *const *)right);
}

static int bad_list(const struct features *f, const char *reason)
{
    return error_set(STATUS_DATA,
                     "%s: expected {\"labels\": [[\"NAME" SUFFIX "\", NUMBER], ...]}, %s",
                     f->labels, reason);
}

// Reads EDM2's list of labels: an object whose "labels" is an array of pairs.
static int read_list(const struct features *f, json_t **list)
{
    uint8_t *text;
    size_t size;
    json_error_t reason;
    if (file_read_regular(f->labels, &text, &size, LIST_SIZE_MAX) < 0)
        return -1;
    json_t *all = json_loadb((const char *)text, size, 0, &reason);
    free(text);
    *list = json_incref(json_object_get(all, "labels"));
    json_decref(all);
    if (!all)
        return bad_list(f, reason.text);
    return json_is_array(*list) ? 0 : bad_list(f, "found no such array");
}

static int add_listed_names(struct features *f, const json_t *list)
{
    size_t i;
    json_t *pair;
    json_array_foreach(list, i, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0));
        char found[64];
        snprintf(found, sizeof found, "found another entry %zu", i);
        if (!name || !has_suffix(name) || !json_is_integer(json_array_get(pair, 1)))
            return bad_list(f, found);
        if (features_add_name(f, name) < 0)
            return -1;
    }
    return 0;
}

// Finds the label of each name: that of its first entry.
static int find_listed_labels(struct features *f, const json_t *list)
{
    if (!(f->listed = mem_new(f->n, sizeof *f->listed)))
        return -1;
    for (size_t i = 0; i < f->n; i++)
        f->listed[i] = -1;
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *pair = json_array_get(list, i);
        const char *file = json_string_value(json_array_get(pair, 0));
        char *name = mem_printf("%.*s", (int)(strlen(file) - strlen(SUFFIX)), file);
        char **at =
            name ? bsearch(&name, f->names, f->n, sizeof name, compare_feature_names) : NULL;
        free(name);
        if (!at)
            return -1;
        f->listed[at - f->names] = json_integer_value(json_array_get(pair, 1));
    }
    return 0;
}

static void sort_names(struct features *f)
{
    qsort(f->names, f->n, sizeof *f->names, compare_feature_names);
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        if (n && strcmp(f->names[i], f->names[n - 1]) == 0)
            free(f->names[i]);
        else
            f->names[n++] = f->names[i];
    f->n = n;
}

static int find_names(struct features *f, void (*stray)(const char *path))
{
    struct name_scan scan = {.features = f,
                             .root = f->latents,
                             .below = "",
                             .listed = file_is_regular(f->labels),
                             .stray = stray};
    if (scan_folder(&scan) < 0)
        return -1;
    if (f->n == 0)
        return error_set(STATUS_DATA, "%s: expected files NAME" SUFFIX ", found none", f->latents);
    json_t *list = NULL;
    scan.root = f->labels;
    int rc = scan.listed ? read_list(f, &list) : scan_folder(&scan);
    if (rc == 0)
        rc = add_listed_names(f, list);
    if (rc == 0)
        sort_names(f);
    if (rc == 0 && list)
        rc = find_listed_labels(f, list);
    json_decref(list);
    return rc;
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
    f->labels = path_join(folder, LIST);
    if (!f->labels)
        return -1;
    if (file_is_regular(f->labels))
        return (f->latents = mem_strdup(folder)) ? 0 : -1;
    free(f->labels);
    f->labels = NULL;
    struct folder_search search = {.folder = folder};
    int rc = visit_names(folder, match_features, &search);
    if (rc == 0 && !search.name)
        rc = error_set(STATUS_NO_INPUT,
                       "%s: expected a folder NAME_features or a file " LIST " in it, found none",
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

static char *file_path(const char *folder, const char *name)
{
    return mem_printf("%s/%s" SUFFIX, folder, name);
}

// Finds the first latent that can be read, and its shape.
static int find_shape(struct features *f, bool draws)
{
    struct error first;
    for (size_t i = 0; i < f->n; i++) {
        char *path = file_path(f->latents, f->names[i]);
        struct npy npy;
        if (!path)
            return -1;
        int rc = npy_read(&npy, path, LATENT_SIZE_MAX);
        if (rc == 0) {
            rc = latent_shape(&npy, path, f->shape);
            f->spread = !draws && f->shape[0] == 2 * SPREAD_CHANNELS;
            f->shape[0] /= f->spread ? 2 : 1;
            f->count = npy.count / (f->spread ? 2 : 1);
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

int features_open(struct features *f, char **folders, bool draws, void (*stray)(const char *path))
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
    if (rc == 0 && (find_names(f, stray) < 0 || find_shape(f, draws) < 0))
        rc = -1;
    if (rc < 0)
        features_close(f);
    return rc;
}

void features_close(struct features *f)
{
    free(f->latents);
    free(f->labels);
    for (size_t i = 0; i < f->n; i++)
        free(f->names[i]);
    free(f->names);
    free(f->listed);
    *f = (struct features){0};
}

char *features_path(const struct features *f, size_t i)
{
    return file_path(f->latents, f->names[i]);
}

static int read_std(const uint8_t *data, enum dtype dtype, const char *path, float *std, size_t n)
{
    if (floats_read(std, data, dtype, n) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (std[i] < 0)
            return error_set(STATUS_DATA,
                             "%s: value %zu is %g, expected a standard deviation; are these log "
                             "variances, or latents of 8 channels?",
                             path, n + i, std[i]);
    return 0;
}

static int read_latent(const struct features *f, const char *path, float *mean, float *std)
{
    struct npy npy;
    size_t shape[3], wanted[3] = {f->shape[0] * (f->spread ? 2 : 1), f->shape[1], f->shape[2]};
    if (npy_read(&npy, path, 2 * f->count * sizeof(double)) < 0)
        return -1;
    int rc = latent_shape(&npy, path, shape);
    if (rc == 0 && memcmp(shape, wanted, sizeof shape) != 0) {
        char text[64], wanted_text[64];
        rc = error_set(STATUS_DATA, "%s: expected a latent of %s like the first, found %s", path,
                       shape_text(wanted, 3, wanted_text, sizeof wanted_text),
                       shape_text(shape, 3, text, sizeof text));
    }
    if (rc == 0)
        rc = floats_read(mean, npy.data, npy.dtype, f->count);
    if (rc == 0 && f->spread)
        rc = read_std(npy.data + f->count * dtype_size(npy.dtype), npy.dtype, path, std, f->count);
    npy_free(&npy);
    return rc;
}

static int check_label(const char *path, double value)
{
    return value >= 0 && value <= LABEL_MAX
               ? 0
               : error_set(STATUS_DATA, "%s: expected a label from 0 to %d, found %.10g", path,
                           LABEL_MAX, value);
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
        rc = check_label(path, value);
        *label = (int64_t)bits;
    }
    npy_free(&npy);
    return rc;
}

static int find_label_file(const struct features *f, size_t i, int64_t *label)
{
    if (f->listed) {
        *label = f->listed[i];
        return *label == -1
                   ? error_set(STATUS_DATA, "%s: expected a label of %s" SUFFIX ", found none",
                               f->labels, f->names[i])
                   : check_label(f->labels, (double)*label);
    }
    char *path = file_path(f->labels, f->names[i]);
    int rc = path ? read_label(path, label) : -1;
    free(path);
    return rc;
}

int features_read(const struct features *f, size_t i, float *mean, float *std, int64_t *label)
{
    char *path = file_path(f->latents, f->names[i]);
    int rc = path ? find_label_file(f, i, label) : -1;
    if (rc == 0)
        rc = read_latent(f, path, mean, std);
    free(path);
    return rc;
}
