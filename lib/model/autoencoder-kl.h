// The autoencoder of Stable Diffusion, AutoencoderKL: Rombach et al., "High-Resolution Image
// Synthesis with Latent Diffusion Models", 2022. SPDX-License-Identifier: MIT
#ifndef DIT_AUTOENCODER_KL_H
#define DIT_AUTOENCODER_KL_H

#include "lib/model/autoencoder.h"
#include "lib/model/layout.h"

#define KL_LEVELS_MAX  8
#define KL_RESNETS_MAX 8
#define KL_GROUPS      32      // of the group norms
#define KL_SCALE       0.18215 // of the published weights (sd-vae-ft-ema, sd-vae-ft-mse)
#define KL_PUBLISHED   ((struct kl_config){4, {128, 256, 512, 512}, 2, 4, KL_SCALE})

// Images with more pixels are encoded and decoded in overlapping tiles.
#define KL_WHOLE_MAX ((size_t)1024 * 1024)

struct kl_config {
    size_t levels;                  // each but the last halves the sides
    size_t channels[KL_LEVELS_MAX]; // of each level
    size_t resnets;                 // in each level of the encoder; the decoder has one more
    size_t latent_channels;
    double scale; // latents are the network's values times this
};

// Which half of an autoencoder a program needs: the other gets no weights and no memory.
enum kl_half { KL_ENCODER = 1, KL_DECODER = 2, KL_BOTH = KL_ENCODER | KL_DECODER };

// -1 with an error if a size is out of bounds or a level's channels are no multiple of KL_GROUPS.
int kl_config_check(const struct kl_config *config);
// Lists the parameters of one half or both, with the names and shapes of diffusers' AutoencoderKL:
// "encoder.down_blocks.0.resnets.0.conv1.weight" (O,I,3,3), ... "quant_conv.weight" (2C,2C,1,1).
// -1 with an error.
int kl_layout_init(struct layout *layout, const struct kl_config *config, enum kl_half half);

// Makes an autoencoder whose weights are zero until kl_set_param. Only `half` may be used. `name`
// is copied. NULL with an error.
struct autoencoder *autoencoder_new_kl(struct device *device, const struct kl_config *config,
                                       enum kl_half half, const char *name);
const struct layout *kl_get_layout(const struct autoencoder *ae);
// Sets one parameter from values[param->count], in the shape of the layout, in host memory. -1 with
// an error.
int kl_set_param(struct autoencoder *ae, const struct param *param, const float *values);

// Encode and decode one image without rounding to bytes, and without tiles: pixels (3,H,W) are from
// -1 to 1; mean, std and latent are as those of ae->encode. All in host memory. -1 with an error.
int kl_encode_pixels(struct autoencoder *ae, const float *pixels, size_t H, size_t W, float *mean,
                     float *std);
int kl_decode_pixels(struct autoencoder *ae, const float *latent, size_t H, size_t W,
                     float *pixels);

// Bytes of device memory, besides the weights, for one image of H x W; for one tile if the image
// has more pixels than KL_WHOLE_MAX.
size_t kl_memory_needed(struct device *device, const struct kl_config *config, enum kl_half half,
                        size_t H, size_t W);

#endif
