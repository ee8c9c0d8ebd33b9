// The Inception network computes the features that PyTorch computes. SPDX-License-Identifier: MIT
#include <math.h>

#include "formats/weights/inception-file.h"
#include "tests/inception.h"
#include "tests/reference.h"

// The largest error, relative to the largest value of the image.
static double largest_error(const float *found, const float *wanted, size_t images, size_t n)
{
    double worst = 0;
    for (size_t b = 0; b < images; b++) {
        double error = 0, most = 0;
        for (size_t i = b * n; i < (b + 1) * n; i++) {
            error = worse(error, fabs((double)found[i] - wanted[i]));
            most = worse(most, fabs((double)wanted[i]));
        }
        worst = worse(worst, error / most);
    }
    return worst;
}

static void test_size(struct inception *net, const struct weights *file, const char *device,
                      int side, double limit)
{
    char name[32];
    snprintf(name, sizeof name, "image_%d", side);
    const struct weight *tensor = weights_find(file, name);
    if (!tensor)
        return;
    const size_t B = tensor->shape[0], H = tensor->shape[1], W = tensor->shape[2];
    uint8_t *images = mem_new(B * H * W, 3);
    float *pool = mem_new(B, net->features * sizeof *pool);
    float *spatial = mem_new(B, net->spatial_features * sizeof *spatial);
    if (!images || !pool || !spatial)
        bail_out();
    weight_read(tensor, 0, B, images);
    if (inception_features(net, images, B, H, W, pool, spatial) < 0)
        bail_out();
    snprintf(name, sizeof name, "pool3_%d", side);
    float *wanted = reference_floats(file, name, NULL);
    snprintf(name, sizeof name, "spatial_%d", side);
    float *wanted_spatial = reference_floats(file, name, NULL);
    const double error = largest_error(pool, wanted, B, net->features);
    const double spatial_error = largest_error(spatial, wanted_spatial, B, net->spatial_features);
    ok(error < limit && spatial_error < limit, "features of images of %d pixels on %s", side,
       device);
    diag("errors %.2g and %.2g", error, spatial_error);
    free(images), free(pool), free(spatial), free(wanted), free(wanted_spatial);
}

static void test_device(const char *name, struct inception *net, const char *reference)
{
    if (!reference_has(reference))
        return;
    struct weights file = reference_open(reference);
    const int sides[] = {32, 64, 256, 299, 512};
    const double limit = net->device->backend->act_size == 2 ? 2e-2 : 1e-5;
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        test_size(net, &file, name, sides[i], limit);
    weights_close(&file);
}

static struct inception *make_random(struct device *device)
{
    struct layout layout;
    struct inception *net = inception_new(device, 4);
    if (!net || inception_layout_init(&layout, 4) < 0)
        bail_out();
    float *values = mem_new(layout.size, sizeof *values);
    for (size_t p = 0; values && p < layout.n_params; p++)
        for (size_t i = 0; i < layout.params[p].count; i++)
            values[layout.params[p].offset + i] = random_inception(&layout.params[p], p, i);
    for (size_t c = 0; c < net->n_convs; c++) {
        const float *params[INCEPTION_PARAMS];
        for (size_t k = 0; k < INCEPTION_PARAMS; k++)
            params[k] = values + layout.params[c * INCEPTION_PARAMS + k].offset;
        if (!values || inception_set_conv(net, c, params) < 0)
            bail_out();
    }
    layout_free(&layout);
    free(values);
    return net;
}

static void test_features_alone(const char *device, struct inception *net)
{
    enum { N = INCEPTION_BATCH + 3, SIDE = 24 };
    uint8_t *images = mem_new(N, SIDE * SIDE * 3);
    float *pool = mem_new(N, net->features * sizeof *pool),
          *alone = mem_new(1, sizeof *alone * 2048);
    float *spatial = mem_new(N, net->spatial_features * sizeof *spatial);
    if (!images || !pool || !spatial || !alone)
        bail_out();
    for (size_t i = 0; i < N * SIDE * SIDE * 3; i++)
        images[i] = (uint8_t)(i * 2654435761u >> 24);
    if (inception_features(net, images, N, SIDE, SIDE, pool, spatial) < 0 ||
        inception_features(net, images + (N - 1) * SIDE * SIDE * 3, 1, SIDE, SIDE, alone, spatial) <
            0)
        bail_out();
    ok(memcmp(alone, pool + (N - 1) * net->features, net->features * sizeof *alone) == 0,
       "%s: the features of an image don't depend on the others", device);
    free(images), free(pool), free(spatial), free(alone);
}

// inception [WEIGHTS DEVICE...]: with WEIGHTS also those of a file, against inception-features.
int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 ? i + 2 < (size_t)argc : device_host_name(i) != NULL; i++) {
        const char *name = argc > 1 ? argv[2 + i] : device_host_name(i);
        char why[256];
        float *fc = NULL;
        uint64_t hash;
        struct device *device = device_open(name, 2, why);
        if (!device) {
            error_set(STATUS_USAGE, "%s: %s", name, why);
            bail_out();
        }
        struct inception *net =
            argc > 1 ? inception_file_load(device, argv[1], &fc, &hash) : make_random(device);
        if (!net)
            bail_out();
        test_device(name, net, argc > 1 ? "inception-features" : "inception-eighth");
        if (argc == 1 && i > 0) // ref, which is slow, has no batches
            test_features_alone(name, net);
        inception_free(net);
        free(fc);
        device_close(device);
    }
    return tap_done();
}
