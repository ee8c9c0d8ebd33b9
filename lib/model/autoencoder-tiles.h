// Encodes and decodes large images in bounded memory. SPDX-License-Identifier: MIT
#ifndef DIT_AUTOENCODER_TILES_H
#define DIT_AUTOENCODER_TILES_H

#include "lib/model/autoencoder.h"

// Like ae->encode and ae->decode of one image, but in tiles of at most side x side pixels, which
// overlap by `overlap` pixels and are blended linearly there. Both are multiples of ae->downsample,
// and side >= 3 overlap. The norms' statistics and the attention of a network then see one tile
// instead of the whole image, so the result is close to that of ae->encode and ae->decode, but not
// equal.
int autoencoder_encode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const uint8_t *image, size_t H, size_t W, float *mean, float *std);
int autoencoder_decode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const float *latent, size_t H, size_t W, uint8_t *image);

#endif
