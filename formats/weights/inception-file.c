// Finds Inception's parameters in a file. SPDX-License-Identifier: MIT
#include "formats/weights/inception-file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/weights-home.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"

#define FIRST "Conv2d_1a_3x3.conv.weight"

const char *inception_file_choose(const char *given)
{
    const char *path = given ? given : getenv("DIT_INCEPTION");
    if (path && *path)
        return path;
    char *fetched = weights_home_find("inception");
    free(fetched);
    return fetched ? "inception" : NULL;
}

static const struct weight *find_inception_tensor(const struct inception_file *file,
                                                  const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "%s%s", file->prefix, name);
    return weights_find(&file->weights, full);
}

// torchvision's network has auxiliary classifiers and 1000 classes.
static int refuse_torchvision(const struct inception_file *file)
{
    const struct weight *fc = file->fc_weight;
    const bool other = find_inception_tensor(file, "AuxLogits.conv0.conv.weight") ||
                       (fc && fc->rank == 2 && fc->shape[0] == 1000);
    return other ? error_set(STATUS_DATA,
                             "%s: this is torchvision's Inception, another network (other weights, "
                             "1000 classes); FID is defined by that of 2015-12-05, such as "
                             "pt_inception-2015-12-05-6726825d.pth",
                             file->weights.path)
                 : 0;
}

static int check_tensor(const struct inception_file *file, const char *name,
                        const struct weight *tensor, const size_t *shape, size_t rank)
{
    char found[128], wanted[128];
    shape_text(shape, rank, wanted, sizeof wanted);
    if (!tensor)
        return error_set(STATUS_DATA, "%s: expected a tensor %s%s of %s, found none",
                         file->weights.path, file->prefix, name, wanted);
    if (tensor->rank != rank || memcmp(tensor->shape, shape, rank * sizeof *shape) != 0)
        return error_set(STATUS_DATA, "%s: %s is of %s, expected %s", file->weights.path,
                         tensor->name, shape_text(tensor->shape, tensor->rank, found, sizeof found),
                         wanted);
    return 0;
}

static int find_prefix(struct inception_file *file)
{
    char shown[ERROR_SHOWN_SIZE];
    const int n = weights_find_prefixes(&file->weights, INCEPTION_MARKER, sizeof file->prefix, 1,
                                        file->prefix);
    if (n != 0)
        return n < 0 ? -1 : 0;
    const char *first = file->weights.n_weights ? file->weights.all[0].name : "none";
    return error_set(STATUS_DATA,
                     "%s: not an Inception network: it has no tensor " INCEPTION_MARKER
                     "; the first is %s",
                     file->weights.path, error_shown(first, strlen(first), shown));
}

static int bind_inception(struct inception_file *file)
{
    if (find_prefix(file) < 0)
        return -1;
    const struct weight *first = find_inception_tensor(file, FIRST);
    file->fc_weight = find_inception_tensor(file, "fc.weight");
    file->fc_bias = find_inception_tensor(file, "fc.bias");
    if (refuse_torchvision(file) < 0)
        return -1;
    if (!first || first->rank != 4 || first->shape[0] % 4 || first->shape[0] == 0 ||
        first->shape[0] > 1024)
        return error_set(STATUS_DATA,
                         "%s: expected a tensor " FIRST " of [32, 3, 3, 3], found none",
                         file->weights.path);
    file->width = first->shape[0];
    if (inception_layout_init(&file->layout, file->width) < 0 ||
        !(file->tensors = mem_new(file->layout.n_params, sizeof *file->tensors)))
        return -1;
    for (size_t i = 0; i < file->layout.n_params; i++) {
        const struct param *param = &file->layout.params[i];
        file->tensors[i] = find_inception_tensor(file, param->name);
        if (check_tensor(file, param->name, file->tensors[i], param->shape, param->rank) < 0)
            return -1;
    }
    const size_t fc_shape[] = {INCEPTION_CLASSES, 64 * file->width};
    if (file->fc_weight && check_tensor(file, "fc.weight", file->fc_weight, fc_shape, 2) < 0)
        return -1;
    return 0;
}

int inception_file_open(struct inception_file *file, const char *path)
{
    *file = (struct inception_file){.path = weights_home_find(path)};
    if (!file->path)
        return -1;
    if (weights_open(&file->weights, file->path) < 0) {
        free(file->path);
        return -1;
    }
    if (bind_inception(file) < 0) {
        inception_file_close(file);
        return -1;
    }
    return 0;
}

void inception_file_close(struct inception_file *file)
{
    free(file->tensors);
    layout_free(&file->layout);
    weights_close(&file->weights);
    free(file->path);
}

static int read_finite(const struct inception_file *file, const struct weight *tensor, float *to)
{
    if (weight_read_floats(tensor, 0, weight_rows(tensor), to) < 0)
        return error_prefix("%s", file->weights.path);
    for (size_t i = 0; i < weight_count(tensor); i++)
        if (!isfinite(to[i]))
            return error_set(STATUS_DATA, "%s: %s: element %zu is %g", file->weights.path,
                             tensor->name, i, (double)to[i]);
    return 0;
}

// values: room for the parameters of the largest convolution.
static int load_convs(const struct inception_file *file, struct inception *net, float *values)
{
    for (size_t c = 0; c < net->n_convs; c++) {
        const float *params[INCEPTION_PARAMS];
        float *to = values;
        for (size_t k = 0; k < INCEPTION_PARAMS; k++) {
            const struct weight *tensor = file->tensors[c * INCEPTION_PARAMS + k];
            if (read_finite(file, tensor, to) < 0)
                return -1;
            params[k] = to;
            to += weight_count(tensor);
        }
        if (inception_set_conv(net, c, params) < 0)
            return -1;
    }
    return 0;
}

static int load_fc(const struct inception_file *file, float **fc)
{
    *fc = NULL;
    if (!file->fc_weight)
        return 0;
    *fc = mem_new(weight_count(file->fc_weight), sizeof **fc);
    return *fc ? read_finite(file, file->fc_weight, *fc) : -1;
}

struct inception *inception_file_load(struct device *device, const char *path, float **fc,
                                      uint64_t *hash)
{
    struct inception_file file;
    *fc = NULL;
    if (inception_file_open(&file, path) < 0)
        return NULL;
    struct inception *net = inception_new(device, file.width);
    float *values = mem_new(INCEPTION_PARAMS * layout_largest(&file.layout), sizeof *values);
    if (!net || !values || load_convs(&file, net, values) < 0 || load_fc(&file, fc) < 0) {
        inception_free(net);
        free(*fc);
        net = NULL;
    }
    *hash = HASH_START;
    for (size_t i = 0; i < file.weights.n_files; i++)
        *hash = hash_bytes(*hash, file.weights.files[i].data, file.weights.files[i].size);
    free(values);
    inception_file_close(&file);
    return net;
}
