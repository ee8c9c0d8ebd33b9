// The network as a list of layers. SPDX-License-Identifier: MIT
//
// The same list is walked to learn the parameters and the sizes, and then to compute. Activations
// are (B,side,side,channels). A block reads X, writes its branches side by side into Y, and has T
// and U for what is between.
#include "lib/model/inception.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/arena.h"
#include "lib/model/device-check.h"

#define EPS 1e-3 // of the batch norms

enum place { X, Y, T, U, PLACES };

struct map {
    act *at; // NULL while the network is walked for its sizes
    size_t side, C;
    size_t size; // the most activations that have stood here
};

struct inception_walk {
    struct device *device;
    size_t B, width;
    struct layout *layout; // to be filled with the parameters, or NULL
    const struct inception *net;
    size_t convs;      // so far
    const char *block; // names the layers, or ""
    size_t filled;     // channels of Y so far
    struct map maps[PLACES];
    float *spatial;   // (B,17,17,INCEPTION_SPATIAL)
    uint8_t *images;  // (B,H,W,3)
    float *pool;      // (B,features)
    size_t pool_size; // features
};

static void place_map(struct inception_walk *w, enum place place, size_t side, size_t C)
{
    struct map *map = &w->maps[place];
    const size_t size = w->B * side * side * C;
    map->side = side;
    map->C = C;
    if (map->size < size)
        map->size = size;
}

static void list_params(struct inception_walk *w, const char *name, const struct conv2d *p)
{
    static const char *const norms[] = {"weight", "bias", "running_mean", "running_var"};
    const size_t shape[] = {p->O, p->I, p->kernel_H, p->kernel_W};
    char text[sizeof w->layout->params->name];
    snprintf(text, sizeof text, "%s%s.conv.weight", w->block, name);
    layout_add(w->layout, true, text, 4, shape);
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        snprintf(text, sizeof text, "%s%s.bn.%s", w->block, name, norms[i]);
        layout_add(w->layout, true, text, 1, shape);
    }
}

// Where Y's next channels begin, within a pixel; it advances by C. Other maps are written whole.
static size_t take_channels(struct inception_walk *w, enum place to, size_t C)
{
    const size_t first = to == Y ? w->filled : 0;
    w->filled += to == Y ? C : 0;
    assert(to != Y || w->filled <= w->maps[Y].C);
    return first;
}

// A convolution to O x width / 32 channels, with batch norm and ReLU. PADDED keeps the side.
enum padding { BARE, PADDED };
static void conv_relu(struct inception_walk *w, enum place from, enum place to, const char *name,
                      size_t O, size_t kernel_H, size_t kernel_W, size_t stride,
                      enum padding padding)
{
    const struct map *x = &w->maps[from];
    const struct conv2d p = {.H = x->side,
                             .W = x->side,
                             .I = x->C,
                             .O = O * w->width / INCEPTION_WIDTH,
                             .kernel_H = kernel_H,
                             .kernel_W = kernel_W,
                             .stride = stride,
                             .pad_H = padding ? kernel_H / 2 : 0,
                             .pad_W = padding ? kernel_W / 2 : 0};
    const size_t number = w->convs++;
    if (to != Y)
        place_map(w, to, conv2d_out_H(&p), p.O);
    const size_t first = take_channels(w, to, p.O);
    if (w->layout)
        list_params(w, name, &p);
    struct map *y = &w->maps[to];
    if (!y->at)
        return;
    const struct param *params = w->net->folded.params + 2 * number;
    op_conv2d_relu(w->device, act_at(w->device, y->at, first), y->C, x->at,
                   act_at(w->device, w->net->weights, params[0].offset),
                   act_at(w->device, w->net->weights, params[1].offset), &p, w->B);
}

static void pool3x3(struct inception_walk *w, enum place from, enum place to, enum pool_kind kind,
                    size_t stride, enum padding padding)
{
    const struct map *x = &w->maps[from];
    const size_t pad = padding ? 1 : 0;
    if (to != Y)
        place_map(w, to, pool3x3_out(x->side, stride, pad), x->C);
    const size_t first = take_channels(w, to, x->C);
    struct map *y = &w->maps[to];
    if (y->at)
        op_pool3x3(w->device, act_at(w->device, y->at, first), y->C, x->at, kind, stride, pad, w->B,
                   x->side, x->side, x->C);
}

static void swap_maps(struct inception_walk *w, enum place a, enum place b)
{
    const struct map old = w->maps[a];
    w->maps[a] = w->maps[b];
    w->maps[b] = old;
}

// Starts a block whose branches have C x width / 32 channels together.
static void begin_block(struct inception_walk *w, const char *name, size_t C, size_t side)
{
    w->block = name;
    w->filled = 0;
    place_map(w, Y, side, C * w->width / INCEPTION_WIDTH);
}

static void end_block(struct inception_walk *w)
{
    assert(w->filled == w->maps[Y].C);
    w->block = "";
    swap_maps(w, X, Y);
}

static void stem(struct inception_walk *w)
{
    conv_relu(w, X, T, "Conv2d_1a_3x3", 32, 3, 3, 2, BARE);
    conv_relu(w, T, U, "Conv2d_2a_3x3", 32, 3, 3, 1, BARE);
    conv_relu(w, U, T, "Conv2d_2b_3x3", 64, 3, 3, 1, PADDED);
    pool3x3(w, T, U, POOL_MAX, 2, BARE);
    conv_relu(w, U, T, "Conv2d_3b_1x1", 80, 1, 1, 1, BARE);
    conv_relu(w, T, U, "Conv2d_4a_3x3", 192, 3, 3, 1, BARE);
    pool3x3(w, U, X, POOL_MAX, 2, BARE);
}

static void mixed_5(struct inception_walk *w, const char *name, size_t P)
{
    begin_block(w, name, 64 + 64 + 96 + P, 35);
    conv_relu(w, X, Y, "branch1x1", 64, 1, 1, 1, BARE);
    conv_relu(w, X, T, "branch5x5_1", 48, 1, 1, 1, BARE);
    conv_relu(w, T, Y, "branch5x5_2", 64, 5, 5, 1, PADDED);
    conv_relu(w, X, T, "branch3x3dbl_1", 64, 1, 1, 1, BARE);
    conv_relu(w, T, U, "branch3x3dbl_2", 96, 3, 3, 1, PADDED);
    conv_relu(w, U, Y, "branch3x3dbl_3", 96, 3, 3, 1, PADDED);
    pool3x3(w, X, T, POOL_MEAN, 1, PADDED);
    conv_relu(w, T, Y, "branch_pool", P, 1, 1, 1, BARE);
    end_block(w);
}

static void mixed_6a(struct inception_walk *w)
{
    begin_block(w, "Mixed_6a.", 384 + 96 + 288, 17);
    conv_relu(w, X, Y, "branch3x3", 384, 3, 3, 2, BARE);
    conv_relu(w, X, T, "branch3x3dbl_1", 64, 1, 1, 1, BARE);
    conv_relu(w, T, U, "branch3x3dbl_2", 96, 3, 3, 1, PADDED);
    conv_relu(w, U, Y, "branch3x3dbl_3", 96, 3, 3, 2, BARE);
    pool3x3(w, X, Y, POOL_MAX, 2, BARE);
    end_block(w);
}

static void mixed_6(struct inception_walk *w, const char *name, size_t c)
{
    begin_block(w, name, 4 * 192, 17);
    conv_relu(w, X, Y, "branch1x1", 192, 1, 1, 1, BARE);
    if (strcmp(name, "Mixed_6d.") == 0 && w->spatial)
        op_take_columns(w->device, w->spatial, w->maps[Y].at, w->maps[Y].C, w->B * 17 * 17,
                        INCEPTION_SPATIAL);
    conv_relu(w, X, T, "branch7x7_1", c, 1, 1, 1, BARE);
    conv_relu(w, T, U, "branch7x7_2", c, 1, 7, 1, PADDED);
    conv_relu(w, U, Y, "branch7x7_3", 192, 7, 1, 1, PADDED);
    conv_relu(w, X, T, "branch7x7dbl_1", c, 1, 1, 1, BARE);
    conv_relu(w, T, U, "branch7x7dbl_2", c, 7, 1, 1, PADDED);
    conv_relu(w, U, T, "branch7x7dbl_3", c, 1, 7, 1, PADDED);
    conv_relu(w, T, U, "branch7x7dbl_4", c, 7, 1, 1, PADDED);
    conv_relu(w, U, Y, "branch7x7dbl_5", 192, 1, 7, 1, PADDED);
    pool3x3(w, X, T, POOL_MEAN, 1, PADDED);
    conv_relu(w, T, Y, "branch_pool", 192, 1, 1, 1, BARE);
    end_block(w);
}

static void mixed_7a(struct inception_walk *w)
{
    begin_block(w, "Mixed_7a.", 320 + 192 + 768, 8);
    conv_relu(w, X, T, "branch3x3_1", 192, 1, 1, 1, BARE);
    conv_relu(w, T, Y, "branch3x3_2", 320, 3, 3, 2, BARE);
    conv_relu(w, X, T, "branch7x7x3_1", 192, 1, 1, 1, BARE);
    conv_relu(w, T, U, "branch7x7x3_2", 192, 1, 7, 1, PADDED);
    conv_relu(w, U, T, "branch7x7x3_3", 192, 7, 1, 1, PADDED);
    conv_relu(w, T, Y, "branch7x7x3_4", 192, 3, 3, 2, BARE);
    pool3x3(w, X, Y, POOL_MAX, 2, BARE);
    end_block(w);
}

static void mixed_7(struct inception_walk *w, const char *name, enum pool_kind kind)
{
    begin_block(w, name, 320 + 4 * 384 + 192, 8);
    conv_relu(w, X, Y, "branch1x1", 320, 1, 1, 1, BARE);
    conv_relu(w, X, T, "branch3x3_1", 384, 1, 1, 1, BARE);
    conv_relu(w, T, Y, "branch3x3_2a", 384, 1, 3, 1, PADDED);
    conv_relu(w, T, Y, "branch3x3_2b", 384, 3, 1, 1, PADDED);
    conv_relu(w, X, T, "branch3x3dbl_1", 448, 1, 1, 1, BARE);
    conv_relu(w, T, U, "branch3x3dbl_2", 384, 3, 3, 1, PADDED);
    conv_relu(w, U, Y, "branch3x3dbl_3a", 384, 1, 3, 1, PADDED);
    conv_relu(w, U, Y, "branch3x3dbl_3b", 384, 3, 1, 1, PADDED);
    pool3x3(w, X, T, kind, 1, PADDED);
    conv_relu(w, T, Y, "branch_pool", 192, 1, 1, 1, BARE);
    end_block(w);
}

static void walk_network(struct inception_walk *w)
{
    w->block = "";
    place_map(w, X, INCEPTION_SIDE, 3);
    stem(w);
    mixed_5(w, "Mixed_5b.", 32);
    mixed_5(w, "Mixed_5c.", 64);
    mixed_5(w, "Mixed_5d.", 64);
    mixed_6a(w);
    mixed_6(w, "Mixed_6b.", 128);
    mixed_6(w, "Mixed_6c.", 160);
    mixed_6(w, "Mixed_6d.", 160);
    mixed_6(w, "Mixed_6e.", 192);
    mixed_7a(w);
    mixed_7(w, "Mixed_7b.", POOL_MEAN);
    mixed_7(w, "Mixed_7c.", POOL_MAX);
    w->pool_size = w->maps[X].C;
    if (w->pool)
        op_mean_pixels(w->device, w->pool, w->maps[X].at, w->B, 8 * 8, w->pool_size);
}

int inception_layout_init(struct layout *layout, size_t width)
{
    struct inception_walk w = {.B = 1, .width = width, .layout = layout};
    *layout = (struct layout){0};
    walk_network(&w);
    if (layout_finish(layout) == 0)
        return 0;
    layout_free(layout);
    return -1;
}

// The folded weights and biases, two for each convolution.
static int plan_folded(struct layout *folded, const struct layout *layout)
{
    for (size_t i = 0; i < layout->n_params; i += INCEPTION_PARAMS) {
        const struct param *conv_weight = &layout->params[i];
        layout_add(folded, true, "weight", 1, &conv_weight->count);
        layout_add(folded, true, "bias", 1, conv_weight->shape);
    }
    return layout_finish(folded);
}

struct inception *inception_new(struct device *device, size_t width)
{
    struct inception *net = mem_new(1, sizeof *net);
    if (!net)
        return NULL;
    struct inception_walk w = {.B = 1, .width = width};
    walk_network(&w);
    *net = (struct inception){.device = device,
                              .width = width,
                              .features = w.pool_size,
                              .spatial_features = 17 * 17 * INCEPTION_SPATIAL,
                              .n_convs = w.convs};
    int rc = inception_layout_init(&net->layout, width);
    if (rc == 0)
        rc = plan_folded(&net->folded, &net->layout);
    const size_t bytes = net->folded.size * device->backend->act_size;
    if (rc == 0 && !(net->weights = device_alloc(device, bytes)))
        rc = device_lacks(device, bytes, NULL, "holding Inception's weights");
    if (rc < 0) {
        inception_free(net);
        return NULL;
    }
    return net;
}

void inception_free(struct inception *net)
{
    if (!net)
        return;
    if (net->memory)
        device_release(net->device, net->memory);
    if (net->weights)
        device_release(net->device, net->weights);
    layout_free(&net->layout);
    layout_free(&net->folded);
    free(net);
}

size_t inception_memory(const struct inception *net)
{
    return net->folded.size * net->device->backend->act_size + net->memory_size;
}

// weights (O,kernel,I) = scale w (O,I,kernel) and biases (O) = shift - scale mean, where the batch
// norm's scale is divided by sqrt(variance + EPS).
static void fold_norm(float *weights, float *biases, const float *const params[INCEPTION_PARAMS],
                      size_t O, size_t I, size_t kernel)
{
    const float *w = params[0];
    for (size_t o = 0; o < O; o++, w += I * kernel, weights += I * kernel) {
        const double scale = params[1][o] / sqrt((double)params[4][o] + EPS);
        biases[o] = (float)(params[2][o] - scale * params[3][o]);
        for (size_t k = 0; k < kernel; k++)
            for (size_t i = 0; i < I; i++)
                weights[k * I + i] = (float)(scale * w[i * kernel + k]);
    }
}

int inception_set_conv(struct inception *net, size_t i, const float *const params[INCEPTION_PARAMS])
{
    struct device *device = net->device;
    const struct param *weight = &net->folded.params[2 * i], *bias = weight + 1;
    const size_t *shape = net->layout.params[i * INCEPTION_PARAMS].shape;
    const size_t end = bias->offset + bias->count - weight->offset;
    float *folded = mem_new(end, sizeof *folded);
    // The device converts float32 to its activations, which may have fewer bits.
    float *uploaded = folded ? device_alloc(device, end * sizeof *uploaded) : NULL;
    if (uploaded) {
        fold_norm(folded, folded + (bias->offset - weight->offset), params, shape[0], shape[1],
                  shape[2] * shape[3]);
        device_upload(device, uploaded, folded, end * sizeof *uploaded);
        op_to_act(device, act_at(device, net->weights, weight->offset), uploaded, end);
        device_release(device, uploaded);
    } else if (folded) {
        device_lacks(device, end * sizeof *uploaded, NULL, "uploading Inception's weights");
    }
    free(folded);
    return uploaded ? 0 : -1;
}

// Places the buffers of a run from the address `base` on and returns their size; the sizes are
// those of a walk without buffers.
static size_t place_run(struct inception_walk *w, const struct inception *net, size_t B, size_t H,
                        size_t W, uintptr_t base)
{
    struct inception_walk sizes = {.B = B, .width = net->width};
    struct arena arena = {base, net->device->backend->act_size};
    walk_network(&sizes);
    *w = (struct inception_walk){.device = net->device, .B = B, .width = net->width, .net = net};
    w->images = arena_take(&arena, B * H * W * 3);
    w->pool = arena_take_float(&arena, B * net->features);
    w->spatial = arena_take_float(&arena, B * net->spatial_features);
    // Blocks swap X and Y, so that each must have room for both.
    const size_t both =
        sizes.maps[X].size > sizes.maps[Y].size ? sizes.maps[X].size : sizes.maps[Y].size;
    w->maps[X].at = arena_take_act(&arena, both);
    w->maps[Y].at = arena_take_act(&arena, both);
    w->maps[T].at = arena_take_act(&arena, sizes.maps[T].size);
    w->maps[U].at = arena_take_act(&arena, sizes.maps[U].size);
    return arena.next - base;
}

static int prepare_walk(struct inception_walk *w, struct inception *net, size_t B, size_t H,
                        size_t W)
{
    struct device *device = net->device;
    const size_t size = place_run(w, net, B, H, W, 0);
    if (size > net->memory_size) {
        if (net->memory)
            device_release(device, net->memory);
        net->memory_size = 0;
        if (!(net->memory = device_alloc(device, size)))
            return device_lacks(device, size, NULL, "Inception: a batch of %zu images of %zux%zu",
                                B, H, W);
        net->memory_size = size;
    }
    place_run(w, net, B, H, W, (uintptr_t)net->memory);
    return 0;
}

static int check_features(const float *values, size_t n, size_t each)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return error_set(STATUS_DATA,
                             "Inception: a feature of image %zu of the batch is %g; are the "
                             "weights damaged?",
                             i / each, (double)values[i]);
    return 0;
}

int inception_features(struct inception *net, const uint8_t *images, size_t B, size_t H, size_t W,
                       float *pool, float *spatial)
{
    struct device *device = net->device;
    const size_t n = B * net->features, n_spatial = B * net->spatial_features;
    struct inception_walk w;
    if (prepare_walk(&w, net, B, H, W) < 0)
        return -1;
    device_upload(device, w.images, images, B * H * W * 3);
    op_resize_images(device, w.maps[X].at, w.images, B, H, W, INCEPTION_SIDE);
    walk_network(&w);
    device_download(device, pool, w.pool, n * sizeof *pool);
    device_download(device, spatial, w.spatial, n_spatial * sizeof *spatial);
    return device_check(device) < 0 || check_features(pool, n, net->features) < 0 ||
                   check_features(spatial, n_spatial, net->spatial_features) < 0
               ? -1
               : 0;
}
