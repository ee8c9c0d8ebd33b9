// Sizes and parameters of the convolutional autoencoder. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdio.h>

#include "lib/base/error.h"
#include "lib/model/autoencoder-kl.h"

#define CHANNELS_MAX 8192

int kl_config_check(const struct kl_config *c)
{
    if (c->levels < 1 || c->levels > KL_LEVELS_MAX || c->resnets < 1 ||
        c->resnets > KL_RESNETS_MAX || c->latent_channels < 1 ||
        c->latent_channels > CHANNELS_MAX || !isfinite(c->scale) || c->scale <= 0)
        return error_set(STATUS_DATA,
                         "an autoencoder of %zu levels, %zu resnets a level, %zu latent channels "
                         "and scale %g is out of bounds",
                         c->levels, c->resnets, c->latent_channels, c->scale);
    for (size_t l = 0; l < c->levels; l++)
        if (c->channels[l] < KL_GROUPS || c->channels[l] > CHANNELS_MAX ||
            c->channels[l] % KL_GROUPS != 0)
            return error_set(STATUS_DATA,
                             "level %zu of the autoencoder has %zu channels, expected a multiple "
                             "of the norms' %d groups, %d at most",
                             l, c->channels[l], KL_GROUPS, CHANNELS_MAX);
    return 0;
}

// Adds PREFIX NAME.weight of this shape and PREFIX NAME.bias of its first size.
static void add_affine(struct layout *layout, const char *prefix, const char *name, size_t rank,
                       const size_t *shape)
{
    char text[2 * sizeof layout->params->name];
    snprintf(text, sizeof text, "%s%s.weight", prefix, name);
    layout_add(layout, true, text, rank, shape);
    snprintf(text, sizeof text, "%s%s.bias", prefix, name);
    layout_add(layout, true, text, 1, shape);
}

static void add_norm(struct layout *layout, const char *prefix, const char *name, size_t C)
{
    add_affine(layout, prefix, name, 1, &C);
}

static void add_conv(struct layout *layout, const char *prefix, const char *name, size_t O,
                     size_t I, size_t side)
{
    add_affine(layout, prefix, name, 4, (const size_t[]){O, I, side, side});
}

static void add_resnet(struct layout *layout, const char *prefix, size_t I, size_t O)
{
    add_norm(layout, prefix, "norm1", I);
    add_conv(layout, prefix, "conv1", O, I, 3);
    add_norm(layout, prefix, "norm2", O);
    add_conv(layout, prefix, "conv2", O, O, 3);
    if (I != O)
        add_conv(layout, prefix, "conv_shortcut", O, I, 1);
}

// The weights of q, k and v are contiguous, as are their biases, so that one product makes all
// three.
static void add_attention(struct layout *layout, const char *prefix, size_t C)
{
    static const char *const parts[] = {"to_q", "to_k", "to_v"};
    add_norm(layout, prefix, "group_norm", C);
    for (size_t bias = 0; bias <= 1; bias++)
        for (size_t i = 0; i < 3; i++) {
            char text[2 * sizeof layout->params->name];
            snprintf(text, sizeof text, "%s%s.%s", prefix, parts[i], bias ? "bias" : "weight");
            layout_add(layout, i == 0, text, bias ? 1 : 2, (const size_t[]){C, C});
        }
    add_affine(layout, prefix, "to_out.0", 2, (const size_t[]){C, C});
}

static void add_middle(struct layout *layout, const char *half, size_t C)
{
    char prefix[sizeof layout->params->name];
    for (size_t r = 0; r < 2; r++) {
        snprintf(prefix, sizeof prefix, "%s.mid_block.resnets.%zu.", half, r);
        add_resnet(layout, prefix, C, C);
        if (r == 0) {
            snprintf(prefix, sizeof prefix, "%s.mid_block.attentions.0.", half);
            add_attention(layout, prefix, C);
        }
    }
}

// Adds a level of the encoder ("down") or the decoder ("up"), with its sampler if it has one.
static void add_level(struct layout *layout, const char *half, const char *kind, size_t level,
                      size_t resnets, size_t I, size_t O, bool has_sampler)
{
    char prefix[sizeof layout->params->name];
    for (size_t r = 0; r < resnets; r++) {
        snprintf(prefix, sizeof prefix, "%s.%s_blocks.%zu.resnets.%zu.", half, kind, level, r);
        add_resnet(layout, prefix, r == 0 ? I : O, O);
    }
    snprintf(prefix, sizeof prefix, "%s.%s_blocks.%zu.%ssamplers.0.", half, kind, level, kind);
    if (has_sampler)
        add_conv(layout, prefix, "conv", O, O, 3);
}

static void add_encoder(struct layout *layout, const struct kl_config *c)
{
    size_t last = c->levels - 1, C = c->latent_channels;
    add_conv(layout, "encoder.", "conv_in", c->channels[0], 3, 3);
    for (size_t l = 0; l <= last; l++)
        add_level(layout, "encoder", "down", l, c->resnets, c->channels[l > 0 ? l - 1 : 0],
                  c->channels[l], l < last);
    add_middle(layout, "encoder", c->channels[last]);
    add_norm(layout, "encoder.", "conv_norm_out", c->channels[last]);
    add_conv(layout, "encoder.", "conv_out", 2 * C, c->channels[last], 3);
    add_conv(layout, "", "quant_conv", 2 * C, 2 * C, 1);
}

static void add_decoder(struct layout *layout, const struct kl_config *c)
{
    size_t last = c->levels - 1, C = c->latent_channels;
    add_conv(layout, "", "post_quant_conv", C, C, 1);
    add_conv(layout, "decoder.", "conv_in", c->channels[last], C, 3);
    add_middle(layout, "decoder", c->channels[last]);
    for (size_t l = 0; l <= last; l++) // from the smallest images to the largest
        add_level(layout, "decoder", "up", l, c->resnets + 1,
                  c->channels[l > 0 ? last - l + 1 : last], c->channels[last - l], l < last);
    add_norm(layout, "decoder.", "conv_norm_out", c->channels[0]);
    add_conv(layout, "decoder.", "conv_out", 3, c->channels[0], 3);
}

int kl_layout_init(struct layout *layout, const struct kl_config *config, enum kl_half half)
{
    *layout = (struct layout){0};
    if (kl_config_check(config) < 0)
        return -1;
    if (half & KL_ENCODER)
        add_encoder(layout, config);
    if (half & KL_DECODER)
        add_decoder(layout, config);
    return layout_finish(layout);
}
