// Opens autoencoders by name or file. SPDX-License-Identifier: MIT
#ifndef DIT_AUTOENCODER_OPEN_H
#define DIT_AUTOENCODER_OPEN_H

#include "lib/autoencoder.h"

// spec: "dct" (16 channels), "dct:N" (N channels in all), "dct:Y,C" (Y of the luma, C of each
// chroma), or a file. NULL: $DIT_VAE if it is set, else "dct". NULL with an error: 64 for a
// malformed name, 66 where the file can't be opened, 65 where it holds no autoencoder.
struct autoencoder *autoencoder_open(struct device *device, const char *spec);

// For latents or weights that say which autoencoder they belong to. spec (--vae) comes first, then
// `named` (the metadata's key `autoencoder`), then what autoencoder_open takes by default; spec and
// named may be NULL. It is an error (65) if it has not `channels` channels. `what` names the
// latents in messages: a file, "standard input".
struct autoencoder *autoencoder_open_for(struct device *device, const char *spec, const char *named,
                                         size_t channels, const char *what);

#endif
