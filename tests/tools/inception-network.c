// inception-network make WIDTH OUT writes an Inception network of random weights for tests, 32 wide
// or less; with a fourth word `bare` without its last layer, with `other` one of 1000 classes.
// inception-network time WEIGHTS N prints the seconds it takes for N random images of 256x256.
// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/weights/inception-file.h"
#include "formats/weights/write-list.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "tests/inception.h"

static int make(size_t width, const char *path, const char *kind)
{
    struct layout layout;
    struct write_list list = {.path = path, .dtype = DTYPE_COUNT};
    if (inception_layout_init(&layout, width) < 0)
        return -1;
    if (strcmp(kind, "bare") != 0)
        layout_add_linear(&layout, "fc", strcmp(kind, "other") == 0 ? 1000 : INCEPTION_CLASSES,
                          64 * width);
    float *values = layout_finish(&layout) < 0 ? NULL : mem_new(layout.size, sizeof *values);
    int rc = values ? 0 : -1;
    for (size_t p = 0; rc == 0 && p < layout.n_params; p++) {
        const struct param *param = &layout.params[p];
        for (size_t i = 0; i < param->count; i++)
            values[param->offset + i] = random_inception(param, p, i);
        rc = write_list_add_values(&list, "", param->name, param->shape, param->rank,
                                   values + param->offset);
    }
    struct output *output = rc == 0 ? output_open(path) : NULL;
    rc = output && write_list_safetensors(&list, NULL, output) == 0 && output_commit(output) == 0
             ? 0
             : -1;
    write_list_free(&list);
    layout_free(&layout);
    free(values);
    return rc;
}

static int measure(const char *path, size_t n)
{
    char why[256];
    float *fc;
    uint64_t hash;
    struct device *device = device_open("cpu", (int)sysconf(_SC_NPROCESSORS_ONLN), why);
    struct inception *net = device ? inception_file_load(device, path, &fc, &hash) : NULL;
    uint8_t *images = mem_new(n, 256 * 256 * 3);
    float *pool = net ? mem_new(INCEPTION_BATCH, net->features * sizeof *pool) : NULL;
    float *spatial = net ? mem_new(INCEPTION_BATCH, net->spatial_features * sizeof *spatial) : NULL;
    if (!images || !pool || !spatial)
        return -1;
    for (size_t i = 0; i < n * 256 * 256 * 3; i++)
        images[i] = (uint8_t)(i * 2654435761u >> 24);
    // The first batch, which also takes the memory, does not count.
    int rc = inception_features(net, images, n < INCEPTION_BATCH ? n : INCEPTION_BATCH, 256, 256,
                                pool, spatial);
    const double start = clock_seconds();
    for (size_t i = 0; rc == 0 && i < n; i += INCEPTION_BATCH) {
        const size_t some = n - i < INCEPTION_BATCH ? n - i : INCEPTION_BATCH;
        rc = inception_features(net, images + i * 256 * 256 * 3, some, 256, 256, pool, spatial);
    }
    printf("%.3f\n", clock_seconds() - start);
    free(images), free(pool), free(spatial), free(fc);
    inception_free(net);
    device_close(device);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = -1;
    if (argc >= 4 && strcmp(argv[1], "make") == 0)
        rc = make(strtoul(argv[2], NULL, 10), argv[3], argc > 4 ? argv[4] : "");
    else if (argc == 4 && strcmp(argv[1], "time") == 0)
        rc = measure(argv[2], strtoul(argv[3], NULL, 10));
    if (rc < 0)
        fprintf(stderr, "inception-network: %s\n", error_message());
    return rc < 0 ? 70 : 0;
}
