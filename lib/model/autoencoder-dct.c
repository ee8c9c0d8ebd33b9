// The built-in autoencoder: the lowest frequencies of an 8x8 DCT. SPDX-License-Identifier: MIT
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/autoencoder.h"
#include "lib/model/device-check.h"

// Scales the 16 default channels to a root mean square of about 1. Measured on pictures cropped to
// 256x256 as ADM does: 1.20 over the 194,342 fully opaque blocks of the 426 photographs with
// transparency in Debian's tuxpaint-stamps-default (outside its "cartoon" folders), the value used
// here; 1.61 over all its 796 stamps with their black or white surroundings; 0.75 over the smooth
// pictures of the reference data.
#define DIVISOR 1.2f

struct dct {
    struct autoencoder base;
    char name[32];
    size_t n_y, n_c;
    size_t pixels;   // B H W that the buffers have room for
    uint8_t *images; // (B,H,W,3)
    float *x;        // (B,3,H,W)
    float *z;        // (B,C,H/8,W/8)
};

static void release_buffers(struct dct *dct)
{
    struct device *device = dct->base.device;
    device_release(device, dct->images);
    device_release(device, dct->x);
    device_release(device, dct->z);
    dct->images = NULL, dct->x = NULL, dct->z = NULL, dct->pixels = 0;
}

static int reserve_buffers(struct dct *dct, size_t pixels)
{
    struct device *device = dct->base.device;
    if (pixels <= dct->pixels)
        return 0;
    release_buffers(dct);
    size_t bytes;
    if (size_mul(pixels, 3 * sizeof(float), &bytes)) { // z is never larger than x
        dct->images = device_alloc(device, pixels * 3);
        dct->x = device_alloc(device, bytes);
        dct->z = device_alloc(device, pixels / 64 * dct->base.channels * sizeof(float));
    }
    if (!dct->images || !dct->x || !dct->z) {
        release_buffers(dct);
        return device_lacks(device, 2 * bytes, NULL, "%s: a batch of %zu pixels", dct->name,
                            pixels);
    }
    dct->pixels = pixels;
    return 0;
}

static int check_errors(struct dct *dct)
{
    return device_check(dct->base.device) < 0 ? error_prefix("%s", dct->name) : 0;
}

static int dct_encode(struct autoencoder *ae, const uint8_t *images, size_t B, size_t H, size_t W,
                      float *mean, float *std)
{
    struct dct *dct = (struct dct *)ae;
    struct device *device = ae->device;
    const bool direct = device->backend->host_memory; // the device reads and writes host memory
    (void)std;
    assert(H % ae->downsample == 0 && W % ae->downsample == 0);
    if (!direct && reserve_buffers(dct, B * H * W) < 0)
        return -1;
    if (!direct)
        device_upload(device, dct->images, images, B * H * W * 3);
    op_dct_encode(device, direct ? mean : dct->z, direct ? images : dct->images, DIVISOR, dct->n_y,
                  dct->n_c, B, H, W);
    if (!direct)
        device_download(device, mean, dct->z, B * ae->channels * (H / 8) * (W / 8) * sizeof(float));
    return check_errors(dct);
}

static int dct_decode(struct autoencoder *ae, const float *latents, size_t B, size_t H, size_t W,
                      uint8_t *images)
{
    struct dct *dct = (struct dct *)ae;
    struct device *device = ae->device;
    assert(H % ae->downsample == 0 && W % ae->downsample == 0);
    if (autoencoder_check_finite("latent", 0, latents, B, ae->channels, H / 8, W / 8) < 0 ||
        reserve_buffers(dct, B * H * W) < 0)
        return -1;
    device_upload(device, dct->z, latents, B * ae->channels * (H / 8) * (W / 8) * sizeof(float));
    op_dct_decode(device, dct->x, dct->z, DIVISOR, dct->n_y, dct->n_c, B, H, W);
    op_float_to_image(device, dct->images, dct->x, B, H, W);
    device_download(device, images, dct->images, B * H * W * 3);
    return check_errors(dct);
}

static void close_dct(struct autoencoder *ae)
{
    release_buffers((struct dct *)ae);
    free(ae);
}

struct autoencoder *autoencoder_new_dct(struct device *device, size_t n_y, size_t n_c)
{
    assert(n_y >= 1 && n_y <= 64 && n_c <= 64);
    struct dct *dct = mem_new(1, sizeof(*dct));
    if (!dct)
        return NULL;
    snprintf(dct->name, sizeof(dct->name), "dct:%zu,%zu", n_y, n_c);
    dct->n_y = n_y;
    dct->n_c = n_c;
    dct->base = (struct autoencoder){
        .name = dct->name,
        .channels = n_y + 2 * n_c,
        .downsample = 8,
        .scale = 1 / (double)DIVISOR,
        .device = device,
        .encode = dct_encode,
        .decode = dct_decode,
        .close = close_dct,
    };
    return &dct->base;
}
