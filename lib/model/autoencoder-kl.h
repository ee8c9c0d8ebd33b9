// The autoencoder of Stable Diffusion: AutoencoderKL of Rombach et al., "High-Resolution Image
// Synthesis with Latent Diffusion Models", 2022. SPDX-License-Identifier: MIT
#ifndef DIT_AUTOENCODER_KL_H
#define DIT_AUTOENCODER_KL_H

#include "lib/model/autoencoder.h"
#include "lib/model/layout.h"

#define KL_LEVELS_MAX  8
#define KL_RESNETS_MAX 8
#define KL_GROUPS      32      // of the norms
#define KL_SCALE       0.18215 // of the published weights (sd-vae-ft-ema, sd-vae-ft-mse)
#define KL_PUBLISHED   ((struct kl_config){4, {128, 256, 512, 512}, 2, 4, KL_SCALE})

// Images of more pixels are encoded and decoded in overlapping tiles.
#define KL_WHOLE_MAX ((size_t)1024 * 1024)

struct kl_config {
    size_t levels;                  // each but the last halves the sides
    size_t channels[KL_LEVELS_MAX]; // of each level
    size_t resnets;                 // of a level of the encoder; the decoder has one more
    size_t latent_channels;
    double scale; // latents are multiplied by it
};

// What a program does with an autoencoder: weights and memory for the other are not taken.
enum kl_half { KL_ENCODER = 1, KL_DECODER = 2, KL_BOTH = KL_ENCODER | KL_DECODER };

// -1 with an error if the sizes are out of bounds or the channels no multiples of the norms' 32
// groups.
int kl_config_check(const struct kl_config *config);
// The parameters of one half or both, named and shaped as diffusers' AutoencoderKL has them:
// "encoder.down_blocks.0.resnets.0.conv1.weight" (O,I,3,3), ... "quant_conv.weight" (2C,2C,1,1).
// -1 with an error.
int kl_layout_init(struct layout *layout, const struct kl_config *config, enum kl_half half);

// Its weights are zero until kl_set_param; the half that was not asked for must not be used. name
// is copied. NULL with an error.
struct autoencoder *autoencoder_new_kl(struct device *device, const struct kl_config *config,
                                       enum kl_half half, const char *name);
const struct layout *kl_get_layout(const struct autoencoder *ae);
// One parameter's values (param->count, in the layout's shape), from host memory. -1 with an error.
int kl_set_param(struct autoencoder *ae, const struct param *param, const float *values);

// The network without the rounding to bytes, of one image, whatever its size: pixels (3,H,W) from
// -1 to 1 to mean and std as of ae->encode, and back. In host memory. -1 with an error.
int kl_encode_pixels(struct autoencoder *ae, const float *pixels, size_t H, size_t W, float *mean,
                     float *std);
int kl_decode_pixels(struct autoencoder *ae, const float *latent, size_t H, size_t W,
                     float *pixels);

// Bytes of device memory for one image of H x W beside the weights; where it is larger than
// KL_WHOLE_MAX, for a tile of it.
size_t kl_memory_needed(struct device *device, const struct kl_config *config, enum kl_half half,
                        size_t H, size_t W);

#endif
