// Opens autoencoders by name or file. SPDX-License-Identifier: MIT
#ifndef DIT_AUTOENCODER_OPEN_H
#define DIT_AUTOENCODER_OPEN_H

#include "lib/model/autoencoder-kl.h"

// spec: "dct" (16 channels), "dct:N" (N channels in all), "dct:Y,C" (Y of the luma, C of each
// chroma), or a file or folder (formats/weights/kl-file.h). NULL: $DIT_VAE if it is set, else
// "dct". half: what will be done with it. NULL with an error: 64 for a malformed name, 66 where the
// file can't be opened, 65 where it holds no autoencoder.
struct autoencoder *autoencoder_open(struct device *device, const char *spec, enum kl_half half);

// For latents or weights that say which autoencoder they belong to. spec (--vae) comes first, then
// `named` (the metadata's key `autoencoder`; of a file it is the last part of its path: that of
// $DIT_VAE, or in the current folder), then what autoencoder_open takes by default; spec and named
// may be NULL. It is an error (65) if it has not `channels` channels. `what` names the latents in
// messages: a file, "standard input".
struct autoencoder *autoencoder_open_for(struct device *device, const char *spec, const char *named,
                                         size_t channels, enum kl_half half, const char *what);

#endif
