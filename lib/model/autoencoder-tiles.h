// Large images through an autoencoder in bounded memory. SPDX-License-Identifier: MIT
#ifndef DIT_AUTOENCODER_TILES_H
#define DIT_AUTOENCODER_TILES_H

#include "lib/model/autoencoder.h"

// As ae->encode and ae->decode of one image, in tiles of at most `side` pixels each way, which
// overlap by `overlap` pixels and fade into each other linearly there. Both are multiples of
// ae->downsample, and side >= 3 overlap. What a network takes from the whole image, such as the
// statistics of its norms, it takes from a tile: the result is near the whole image's, not equal.
int autoencoder_encode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const uint8_t *image, size_t H, size_t W, float *mean, float *std);
int autoencoder_decode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const float *latent, size_t H, size_t W, uint8_t *image);

#endif
