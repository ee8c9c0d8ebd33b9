// The encoder and decoder of AutoencoderKL, as lists of operations. SPDX-License-Identifier: MIT
//
// Sizes: B images, H and W sides, n = H W pixels, I and O input and output channels, C latent
// channels. Activations are (B,H,W,channels).
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/arena.h"
#include "lib/model/autoencoder-kl.h"
#include "lib/model/autoencoder-tiles.h"
#include "lib/model/device-check.h"

// A batch is split into groups whose activations take at most this many bytes.
#define GROUP_BYTES ((size_t)1 << 30)
// Images of more than KL_WHOLE_MAX pixels are split into tiles of this side and overlap.
#define TILE_SIDE    1024
#define TILE_OVERLAP 256

struct affine {
    const act *w, *b;
};

struct resnet {
    size_t I, O;
    struct affine norm1, conv1, norm2, conv2;
    struct affine shortcut; // where I and O differ
};

struct level {
    struct resnet resnets[KL_RESNETS_MAX + 1];
    struct affine sampler; // to the next level's size
};

// The layers of the encoder, or of the decoder, whose level 0 corresponds to the encoder's last.
struct coder {
    size_t levels, resnets;
    struct affine conv_in, norm_out, conv_out;
    struct affine quant; // the encoder's last layer, the decoder's first
    struct level level[KL_LEVELS_MAX];
    struct resnet mid[2];
    struct affine mid_norm, mid_qkv, mid_out;
};

// A buffer that layers of different sizes share, and the number of activations of the largest.
struct layer_buffer {
    act *at;
    size_t size;
};

// The state of one run of a group of images through a coder. x holds the activations from layer to
// layer; y and h are for intermediate results. If the buffers are NULL, the run only determines
// their sizes.
struct coder_run {
    struct device *device;
    size_t B, H, W, C; // of x
    uint8_t *images;   // (B,H,W,3)
    float *pixels;     // (B,3,H,W)
    float *mean, *std; // (B,C,h,w); for the decoder, mean holds the latents
    double *squares;   // a sum of squares
    struct layer_buffer buffers[3];
    struct layer_buffer *x, *y, *h;
};

struct kl {
    struct autoencoder base;
    char *name;
    struct kl_config config;
    enum kl_half half;
    struct layout layout;
    act *weights; // (layout.size); those of 3x3 convolutions are (O,3,3,I)
    struct coder encoder, decoder;
    void *memory; // of the buffers of a run
    size_t memory_size;
    void *record; // of the last run, whose half and sizes follow (device_repeat)
    enum kl_half record_half;
    size_t record_B, record_H, record_W;
};

// Where to write n activations. In a run without buffers, notes the size and returns NULL; the
// caller must then skip the operation.
static act *reserve_output(struct layer_buffer *buffer, size_t n)
{
    if (buffer->size < n)
        buffer->size = n;
    return buffer->at;
}

static void swap(struct layer_buffer **a, struct layer_buffer **b)
{
    struct layer_buffer *old = *a;
    *a = *b;
    *b = old;
}

// y (B,n,C) = GN(x), then SiLU if `silu`.
static void norm(struct coder_run *p, struct layer_buffer *y, const struct layer_buffer *x,
                 const struct affine *norm, size_t C, bool silu)
{
    act *to = reserve_output(y, p->B * p->H * p->W * C);
    if (to)
        op_group_norm(p->device, to, x->at, norm->w, norm->b, silu, p->B, p->H * p->W, C,
                      KL_GROUPS);
}

// y (B,H,W,O) = conv(x (B,H,W,I)) + sum, which may be NULL, or y.
static void conv(struct coder_run *p, struct layer_buffer *y, const struct layer_buffer *x,
                 const struct affine *conv, const struct layer_buffer *sum, size_t I, size_t O)
{
    act *to = reserve_output(y, p->B * p->H * p->W * O);
    if (to)
        op_conv3x3(p->device, to, x->at, conv->w, conv->b, sum ? sum->at : NULL, CONV_SAME, p->B,
                   p->H, p->W, I, O);
}

// y (B,n,O) = x (B,n,I) w^T + b.
static void linear(struct coder_run *p, struct layer_buffer *y, const struct layer_buffer *x,
                   const struct affine *linear, size_t I, size_t O)
{
    size_t R = p->B * p->H * p->W;
    act *to = reserve_output(y, R * O);
    if (to)
        op_linear(p->device, to, O, x->at, linear->w, linear->b, R, I, O);
}

// x (B,H',W',C) = conv(x): half the sides, or twice the sides.
static void sample(struct coder_run *p, const struct affine *conv, enum conv_kind kind)
{
    size_t H = p->H, W = p->W;
    p->H = kind == CONV_DOWN ? H / 2 : 2 * H;
    p->W = kind == CONV_DOWN ? W / 2 : 2 * W;
    act *to = reserve_output(p->y, p->B * p->H * p->W * p->C);
    if (to)
        op_conv3x3(p->device, to, p->x->at, conv->w, conv->b, NULL, kind, p->B, H, W, p->C, p->C);
    swap(&p->x, &p->y);
}

// x (B,H,W,O) = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x (B,H,W,I)))))))
static void resnet(struct coder_run *p, const struct resnet *r)
{
    struct layer_buffer *normed = r->I == r->O ? p->y : p->x, *sum = r->I == r->O ? p->x : p->y;
    if (r->I != r->O) // first, because x is overwritten below
        linear(p, sum, p->x, &r->shortcut, r->I, r->O);
    norm(p, normed, p->x, &r->norm1, r->I, true);
    conv(p, p->h, normed, &r->conv1, NULL, r->I, r->O);
    norm(p, p->h, p->h, &r->norm2, r->O, true);
    conv(p, sum, p->h, &r->conv2, sum, r->O, r->O);
    p->x = sum;
    p->y = normed;
    p->C = r->O;
}

// x (B,n,C) += out(attention(qkv(norm(x)))), one head over the n pixels.
static void attention(struct coder_run *p, const struct coder *c)
{
    size_t n = p->H * p->W, C = p->C;
    norm(p, p->y, p->x, &c->mid_norm, C, false);
    linear(p, p->h, p->y, &c->mid_qkv, C, 3 * C); // (B,n,3,1,C)
    act *out = reserve_output(p->y, p->B * n * C);
    if (out)
        op_attention(p->device, out, NULL, p->h->at, p->B, n, 1, C);
    linear(p, p->h, p->y, &c->mid_out, C, C);
    if (out)
        op_add_row(p->device, p->x->at, p->h->at, 1, p->B * n * C);
}

static void middle(struct coder_run *p, const struct coder *c)
{
    resnet(p, &c->mid[0]);
    attention(p, c);
    resnet(p, &c->mid[1]);
}

static void level(struct coder_run *p, const struct coder *c, size_t l, enum conv_kind kind)
{
    for (size_t r = 0; r < c->resnets; r++)
        resnet(p, &c->level[l].resnets[r]);
    if (l + 1 < c->levels)
        sample(p, &c->level[l].sampler, kind);
}

// p->mean, p->std (B,C,h,w) from p->pixels (B,3,H,W).
static void run_encoder(struct coder_run *p, const struct kl_config *config, const struct coder *c)
{
    struct device *d = p->device;
    size_t C = config->latent_channels, n = p->H * p->W;
    act *to = reserve_output(p->y, p->B * n * 3);
    if (to)
        op_channels_last(d, to, p->pixels, p->B, 3, n);
    p->C = config->channels[0];
    conv(p, p->x, p->y, &c->conv_in, NULL, 3, p->C);
    for (size_t l = 0; l < c->levels; l++)
        level(p, c, l, CONV_DOWN);
    middle(p, c);
    norm(p, p->x, p->x, &c->norm_out, p->C, true);
    conv(p, p->y, p->x, &c->conv_out, NULL, p->C, 2 * C);
    linear(p, p->x, p->y, &c->quant, 2 * C, 2 * C); // moments (B,h,w,2C)
    if (to)
        op_posterior(d, p->mean, p->std, p->x->at, (float)config->scale, p->B, C, p->H * p->W);
}

// p->pixels (B,3,H,W) from p->mean (B,C,h,w).
static void run_decoder(struct coder_run *p, const struct kl_config *config, const struct coder *c)
{
    struct device *d = p->device;
    size_t C = config->latent_channels;
    act *to = reserve_output(p->x, p->B * p->H * p->W * C);
    if (to)
        op_channels_last(d, to, p->mean, p->B, C, p->H * p->W);
    linear(p, p->y, p->x, &c->quant, C, C);
    p->C = config->channels[config->levels - 1];
    conv(p, p->x, p->y, &c->conv_in, NULL, C, p->C);
    middle(p, c);
    for (size_t l = 0; l < c->levels; l++)
        level(p, c, l, CONV_UP);
    norm(p, p->x, p->x, &c->norm_out, p->C, true);
    conv(p, p->y, p->x, &c->conv_out, NULL, p->C, 3);
    if (to)
        op_channels_first(d, p->pixels, p->y->at, p->B, 3, p->H * p->W);
}

static size_t latent_size(const struct kl *m, size_t H, size_t W)
{
    size_t f = m->base.downsample;
    return m->config.latent_channels * (H / f) * (W / f);
}

// Prepares a run of B images of H x W through one half, without buffers.
static void start_run(struct coder_run *p, const struct kl *m, enum kl_half half, size_t B,
                      size_t H, size_t W)
{
    size_t f = half == KL_ENCODER ? 1 : m->base.downsample;
    *p = (struct coder_run){.device = m->base.device, .B = B, .H = H / f, .W = W / f};
    p->x = &p->buffers[0], p->y = &p->buffers[1], p->h = &p->buffers[2];
}

static void run_coder(struct coder_run *p, const struct kl *m, enum kl_half half)
{
    if (half == KL_ENCODER)
        run_encoder(p, &m->config, &m->encoder);
    else
        run_decoder(p, &m->config, &m->decoder);
}

// The argument of run_repeated.
struct repeated {
    const struct kl *m;
    enum kl_half half;
    struct coder_run run;
};

static void run_repeated(void *user)
{
    struct repeated *r = user;
    struct coder_run run = r->run; // a copy, as running changes it
    run_coder(&run, r->m, r->half);
}

// Runs what prepare_run has prepared. If the last run had the same half and sizes, the device
// repeats its record.
static void repeat_run(struct coder_run *p, struct kl *m, enum kl_half half)
{
    struct repeated r = {m, half, *p};
    if (half != m->record_half || p->B != m->record_B || p->H != m->record_H || p->W != m->record_W)
        device_forget(p->device, &m->record);
    m->record_half = half, m->record_B = p->B, m->record_H = p->H, m->record_W = p->W;
    device_repeat(p->device, &m->record, run_repeated, &r);
}

// Places the buffers of a run from the address `base` on and returns their size; with base 0 it
// only finds the size, by a run without buffers. For n pixels and the published sizes, the encoder
// needs 3 x 128 n activations: at the first level x, its norm, and the output of conv1. The decoder
// needs 512 n: the input of its last level, with 256 channels, the shortcut and the output of
// conv1, with 128 each. As float32 these are 1.5 KiB and 2 KiB a pixel, or 1.5 GiB and 2 GiB for an
// image of KL_WHOLE_MAX.
static size_t place_buffers(struct coder_run *p, const struct kl *m, enum kl_half half, size_t B,
                            size_t H, size_t W, uintptr_t base)
{
    struct device *device = m->base.device;
    size_t latents = B * latent_size(m, H, W);
    struct arena arena = {base, device->backend->act_size};
    struct coder_run sizes;
    start_run(&sizes, m, half, B, H, W);
    run_coder(&sizes, m, half);
    start_run(p, m, half, B, H, W);
    p->images = arena_take(&arena, B * H * W * 3);
    p->pixels = arena_take_float(&arena, B * H * W * 3);
    p->mean = arena_take_float(&arena, latents);
    p->std = arena_take_float(&arena, latents);
    p->squares = arena_take(&arena, sizeof *p->squares);
    for (size_t i = 0; i < 3; i++)
        p->buffers[i].at = arena_take_act(&arena, sizes.buffers[i].size);
    return arena.next - base;
}

// Prepares a run with buffers. Their memory is kept for the next run.
static int prepare_run(struct coder_run *p, struct kl *m, enum kl_half half, size_t B, size_t H,
                       size_t W)
{
    struct device *device = m->base.device;
    size_t size = place_buffers(p, m, half, B, H, W, 0);
    if (size > m->memory_size) {
        device_forget(device, &m->record);
        if (m->memory)
            device_release(device, m->memory);
        m->memory_size = 0;
        if (!(m->memory = device_alloc(device, size)))
            return device_lacks(device, size, NULL, "%s: a batch of %zu images of %zux%zu", m->name,
                                B, H, W);
        m->memory_size = size;
    }
    place_buffers(p, m, half, B, H, W, (uintptr_t)m->memory);
    return 0;
}

static size_t group_size(const struct kl *m, enum kl_half half, size_t H, size_t W)
{
    struct coder_run p;
    size_t size = place_buffers(&p, m, half, 1, H, W, 0);
    return size < GROUP_BYTES ? GROUP_BYTES / size : 1;
}

static int check_device(const struct kl *m)
{
    return device_check(m->base.device) < 0 ? error_prefix("%s", m->name) : 0;
}

// Encodes images or, if they are NULL, pixels.
static int encode_group(struct kl *m, const uint8_t *images, const float *pixels, size_t B,
                        size_t H, size_t W, float *mean, float *std)
{
    struct device *d = m->base.device;
    size_t bytes = B * latent_size(m, H, W) * sizeof *mean;
    struct coder_run p;
    if (prepare_run(&p, m, KL_ENCODER, B, H, W) < 0)
        return -1;
    if (images) {
        device_upload(d, p.images, images, B * H * W * 3);
        op_image_to_float(d, p.pixels, p.images, B, H, W);
    } else {
        device_upload(d, p.pixels, pixels, B * H * W * 3 * sizeof *pixels);
    }
    repeat_run(&p, m, KL_ENCODER);
    device_download(d, mean, p.mean, bytes);
    device_download(d, std, p.std, bytes);
    return check_device(m);
}

static int kl_encode(struct autoencoder *ae, const uint8_t *images, size_t B, size_t H, size_t W,
                     float *mean, float *std)
{
    struct kl *m = (struct kl *)ae;
    size_t f = ae->downsample, C = ae->channels, latent = latent_size(m, H, W);
    assert(m->half & KL_ENCODER && H % f == 0 && W % f == 0);
    bool whole = H * W <= KL_WHOLE_MAX;
    size_t group = whole ? group_size(m, KL_ENCODER, H, W) : 1;
    for (size_t b = 0, n; b < B; b += n) {
        n = B - b < group ? B - b : group;
        const uint8_t *from = images + b * H * W * 3;
        float *to_mean = mean + b * latent, *to_std = std + b * latent;
        int rc = whole ? encode_group(m, from, NULL, n, H, W, to_mean, to_std)
                       : autoencoder_encode_tiles(ae, TILE_SIDE, TILE_OVERLAP, from, H, W, to_mean,
                                                  to_std);
        if (rc < 0)
            return -1;
    }
    if (autoencoder_check_finite("mean of latent", 0, mean, B, C, H / f, W / f) < 0 ||
        autoencoder_check_finite("std of latent", 0, std, B, C, H / f, W / f) < 0)
        return error_prefix("%s", m->name);
    return 0;
}

// -1 with an error that names the place if a decoded pixel is not finite. `first` is the number of
// the group's first image in its batch.
static int check_pixels(const struct kl *m, const struct coder_run *p, size_t first, size_t H,
                        size_t W)
{
    struct device *d = m->base.device;
    size_t n = p->B * 3 * H * W;
    double squares;
    op_sum_squares(d, p->squares, p->pixels, n);
    device_download(d, &squares, p->squares, sizeof squares);
    if (check_device(m) < 0)
        return -1;
    if (isfinite(squares))
        return 0;
    float *pixels = mem_new(n, sizeof *pixels);
    if (!pixels)
        return -1;
    device_download(d, pixels, p->pixels, n * sizeof *pixels);
    int rc = autoencoder_check_finite("decoded image", first, pixels, p->B, 3, H, W);
    free(pixels);
    return rc < 0 ? error_prefix("%s", m->name) : 0;
}

// Decodes into images or, if they are NULL, into pixels.
static int decode_group(struct kl *m, const float *latents, size_t first, size_t B, size_t H,
                        size_t W, uint8_t *images, float *pixels)
{
    struct device *d = m->base.device;
    struct coder_run p;
    if (prepare_run(&p, m, KL_DECODER, B, H, W) < 0)
        return -1;
    device_upload(d, p.mean, latents, B * latent_size(m, H, W) * sizeof *latents);
    repeat_run(&p, m, KL_DECODER);
    if (images) {
        op_float_to_image(d, p.images, p.pixels, B, H, W);
        device_download(d, images, p.images, B * H * W * 3);
    } else {
        device_download(d, pixels, p.pixels, B * H * W * 3 * sizeof *pixels);
    }
    return check_pixels(m, &p, first, H, W);
}

static int kl_decode(struct autoencoder *ae, const float *latents, size_t B, size_t H, size_t W,
                     uint8_t *images)
{
    struct kl *m = (struct kl *)ae;
    size_t f = ae->downsample, latent = latent_size(m, H, W);
    assert(m->half & KL_DECODER && H % f == 0 && W % f == 0);
    if (autoencoder_check_finite("latent", 0, latents, B, ae->channels, H / f, W / f) < 0)
        return -1;
    bool whole = H * W <= KL_WHOLE_MAX;
    size_t group = whole ? group_size(m, KL_DECODER, H, W) : 1;
    for (size_t b = 0, n; b < B; b += n) {
        n = B - b < group ? B - b : group;
        const float *from = latents + b * latent;
        uint8_t *to = images + b * H * W * 3;
        if (whole) {
            if (decode_group(m, from, b, n, H, W, to, NULL) < 0)
                return -1;
        } else if (autoencoder_decode_tiles(ae, TILE_SIDE, TILE_OVERLAP, from, H, W, to) < 0) {
            return error_prefix("image %zu of the batch", b);
        }
    }
    return 0;
}

int kl_encode_pixels(struct autoencoder *ae, const float *pixels, size_t H, size_t W, float *mean,
                     float *std)
{
    struct kl *m = (struct kl *)ae;
    assert(m->half & KL_ENCODER);
    return encode_group(m, NULL, pixels, 1, H, W, mean, std);
}

int kl_decode_pixels(struct autoencoder *ae, const float *latent, size_t H, size_t W, float *pixels)
{
    struct kl *m = (struct kl *)ae;
    assert(m->half & KL_DECODER);
    return decode_group(m, latent, 0, 1, H, W, NULL, pixels);
}

static void close_kl(struct autoencoder *ae)
{
    struct kl *m = (struct kl *)ae;
    device_forget(ae->device, &m->record);
    if (m->memory)
        device_release(ae->device, m->memory);
    if (m->weights)
        device_release(ae->device, m->weights);
    layout_free(&m->layout);
    free(m->name);
    free(m);
}

// The weights PREFIX NAME.KIND, or NULL if the model has no such layer.
static const act *find_weights(const struct kl *m, const char *prefix, const char *name,
                               const char *kind)
{
    char text[2 * sizeof m->layout.params->name];
    snprintf(text, sizeof text, "%s%s.%s", prefix, name, kind);
    const struct param *param = layout_find(&m->layout, text);
    return param ? act_at(m->base.device, m->weights, param->offset) : NULL;
}

static struct affine affine_at(const struct kl *m, const char *prefix, const char *name)
{
    return (struct affine){find_weights(m, prefix, name, "weight"),
                           find_weights(m, prefix, name, "bias")};
}

static struct resnet resnet_at(const struct kl *m, const char *prefix)
{
    char text[2 * sizeof m->layout.params->name];
    snprintf(text, sizeof text, "%sconv1.weight", prefix);
    const struct param *conv1 = layout_find(&m->layout, text);
    return (struct resnet){.I = conv1->shape[1],
                           .O = conv1->shape[0],
                           .norm1 = affine_at(m, prefix, "norm1"),
                           .conv1 = affine_at(m, prefix, "conv1"),
                           .norm2 = affine_at(m, prefix, "norm2"),
                           .conv2 = affine_at(m, prefix, "conv2"),
                           .shortcut = affine_at(m, prefix, "conv_shortcut")};
}

// half and kind are "encoder" and "down", or "decoder" and "up".
static struct coder coder_at(const struct kl *m, const char *half, const char *kind,
                             const char *quant, size_t resnets)
{
    struct coder c = {.levels = m->config.levels, .resnets = resnets};
    char prefix[sizeof m->layout.params->name];
    for (size_t l = 0; l < c.levels; l++) {
        for (size_t r = 0; r < resnets; r++) {
            snprintf(prefix, sizeof prefix, "%s.%s_blocks.%zu.resnets.%zu.", half, kind, l, r);
            c.level[l].resnets[r] = resnet_at(m, prefix);
        }
        snprintf(prefix, sizeof prefix, "%s.%s_blocks.%zu.%ssamplers.0.", half, kind, l, kind);
        c.level[l].sampler = affine_at(m, prefix, "conv");
    }
    for (size_t r = 0; r < 2; r++) {
        snprintf(prefix, sizeof prefix, "%s.mid_block.resnets.%zu.", half, r);
        c.mid[r] = resnet_at(m, prefix);
    }
    snprintf(prefix, sizeof prefix, "%s.mid_block.attentions.0.", half);
    c.mid_norm = affine_at(m, prefix, "group_norm");
    c.mid_qkv = affine_at(m, prefix, "to_q"); // to_k and to_v follow
    c.mid_out = affine_at(m, prefix, "to_out.0");
    snprintf(prefix, sizeof prefix, "%s.", half);
    c.conv_in = affine_at(m, prefix, "conv_in");
    c.norm_out = affine_at(m, prefix, "conv_norm_out");
    c.conv_out = affine_at(m, prefix, "conv_out");
    c.quant = affine_at(m, "", quant);
    return c;
}

static void find_layers(struct kl *m)
{
    size_t resnets = m->config.resnets;
    if (m->half & KL_ENCODER)
        m->encoder = coder_at(m, "encoder", "down", "quant_conv", resnets);
    if (m->half & KL_DECODER)
        m->decoder = coder_at(m, "decoder", "up", "post_quant_conv", resnets + 1);
}

// Sets up an autoencoder without its memory, to find how much it needs.
static int plan_autoencoder(struct kl *m, struct device *device, const struct kl_config *config,
                            enum kl_half half)
{
    *m = (struct kl){.config = *config, .half = half, .base.device = device};
    if (kl_layout_init(&m->layout, config, half) < 0)
        return -1;
    m->base = (struct autoencoder){
        .channels = config->latent_channels,
        .downsample = (size_t)1 << (config->levels - 1),
        .scale = config->scale,
        .spread = true,
        .device = device,
        .encode = kl_encode,
        .decode = kl_decode,
        .close = close_kl,
    };
    find_layers(m);
    return 0;
}

struct autoencoder *autoencoder_new_kl(struct device *device, const struct kl_config *config,
                                       enum kl_half half, const char *name)
{
    struct kl *m = mem_new(1, sizeof *m);
    if (!m)
        return NULL;
    if (plan_autoencoder(m, device, config, half) < 0 || !(m->name = mem_strdup(name)))
        goto failed;
    m->base.name = m->name;
    size_t bytes = m->layout.size * device->backend->act_size;
    if (!(m->weights = device_alloc(device, bytes))) {
        device_lacks(device, bytes, NULL, "%s: holding the network's weights", name);
        goto failed;
    }
    find_layers(m);
    return &m->base;
failed:
    close_kl(&m->base);
    return NULL;
}

const struct layout *kl_get_layout(const struct autoencoder *ae)
{
    return &((const struct kl *)ae)->layout;
}

// Copies a parameter's values into the layout of the weights: 3x3 convolutions have their channels
// last, and the decoder's first layer, which is linear, includes the division by the latents'
// scale.
static void arrange_values(const struct kl *m, const struct param *param, const float *values,
                           float *to)
{
    bool conv = param->rank == 4 && param->shape[2] == 3;
    bool scaled = strcmp(param->name, "post_quant_conv.weight") == 0;
    size_t taps = conv ? 9 : 1, I = conv ? param->shape[1] : param->count;
    for (size_t o = 0; o < param->count / (taps * I); o++, values += taps * I)
        for (size_t tap = 0; tap < taps; tap++)
            for (size_t i = 0; i < I; i++)
                *to++ = values[i * taps + tap] / (scaled ? (float)m->config.scale : 1);
}

int kl_set_param(struct autoencoder *ae, const struct param *param, const float *values)
{
    struct kl *m = (struct kl *)ae;
    struct device *device = ae->device;
    size_t bytes = param->count * sizeof(float);
    float *arranged = mem_new(param->count, sizeof *arranged);
    // The device converts float32 to its activations, which may have fewer bits.
    float *uploaded = arranged ? device_alloc(device, bytes) : NULL;
    int rc = -1;
    if (uploaded) {
        arrange_values(m, param, values, arranged);
        device_upload(device, uploaded, arranged, bytes);
        op_to_act(device, act_at(device, m->weights, param->offset), uploaded, param->count);
        device_release(device, uploaded);
        rc = 0;
    } else if (arranged) {
        device_lacks(device, bytes, NULL, "%s: uploading %s", m->name, param->name);
    }
    free(arranged);
    return rc;
}

size_t kl_memory_needed(struct device *device, const struct kl_config *config, enum kl_half half,
                        size_t H, size_t W)
{
    struct kl m;
    struct coder_run p;
    size_t size = 0;
    if (H * W > KL_WHOLE_MAX) {
        H = H < TILE_SIDE ? H : TILE_SIDE;
        W = W < TILE_SIDE ? W : TILE_SIDE;
    }
    if (plan_autoencoder(&m, device, config, half) == 0)
        size = place_buffers(&p, &m, half, 1, H, W, 0);
    layout_free(&m.layout);
    return size;
}
