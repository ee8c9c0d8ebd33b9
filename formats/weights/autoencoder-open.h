// Opens the autoencoder that is meant by a name or file. SPDX-License-Identifier: MIT
#ifndef DIT_AUTOENCODER_OPEN_H
#define DIT_AUTOENCODER_OPEN_H

#include <jansson.h>

#include "lib/model/autoencoder-kl.h"

// spec is "dct" (16 channels), "dct:N" (N channels in all), "dct:Y,C" (Y of the luma, C of each
// chroma), or a file or folder (formats/weights/kl-file.h). NULL stands for $DIT_VAE if that is
// set, else for "dct". Only `half` of a file is loaded. Returns NULL with an error: 64 if the name
// is malformed, 66 if the file can't be opened, 65 if it holds no autoencoder.
struct autoencoder *autoencoder_open(struct device *device, const char *spec, enum kl_half half);

// Opens the autoencoder that latents or weights need. It is the first of these that is not NULL:
// spec (of --vae); what their metadata records as `autoencoder`; what autoencoder_open takes by
// default. A file is recorded by the last part of its path: it is $DIT_VAE if that ends so, else a
// file in the current folder or of weights-home.h; a recorded path of several parts is shown, but
// not opened. Returns NULL with an error: as autoencoder_open, or 65 if the autoencoder has another
// number of channels than `channels`, or another scale than the metadata's `latent_scale`. `what`
// names the latents in messages: a file, or "standard input".
struct autoencoder *autoencoder_open_for(struct device *device, const char *spec,
                                         const json_t *metadata, size_t channels, enum kl_half half,
                                         const char *what);

#endif
