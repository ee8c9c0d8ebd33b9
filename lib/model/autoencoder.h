// Autoencoders: images to latents and back. SPDX-License-Identifier: MIT
// formats/weights/autoencoder-open.h opens one by name or file; the built-in one is made here.
#ifndef DIT_AUTOENCODER_H
#define DIT_AUTOENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"

struct autoencoder {
    const char *name;  // for streams' metadata and messages: "dct:10,3", or the file's name
    size_t channels;   // of a latent
    size_t downsample; // image side / latent side; image sides must be multiples of it
    double scale;      // latents are the network's values times this
    bool spread;       // encode gives a std
    struct device *device;
    // images (B,H,W,3) -> mean, std (B,C,h,w), already multiplied by scale; std is not touched
    // without spread. All in host memory. -1 with an error.
    int (*encode)(struct autoencoder *ae, const uint8_t *images, size_t B, size_t H, size_t W,
                  float *mean, float *std);
    // latents (B,C,h,w) -> images (B,H,W,3), H and W the image's. -1 with an error, also where a
    // value is not finite.
    int (*decode)(struct autoencoder *ae, const float *latents, size_t B, size_t H, size_t W,
                  uint8_t *images);
    void (*close)(struct autoencoder *ae);
};

// The built-in autoencoder (DESIGN section 4): the first n_y coefficients of Y's 8x8 DCT, n_c of
// Cb's and of Cr's. The default is 10 and 3: 16 channels. NULL with an error.
struct autoencoder *autoencoder_new_dct(struct device *device, size_t n_y, size_t n_c);
void autoencoder_close(struct autoencoder *ae); // NULL is fine

// -1 with an error that names the place if one of values (B,C,h,w) is not finite. `what` they are,
// such as "latent", and the number of the first one in its batch.
int autoencoder_check_finite(const char *what, size_t first, const float *values, size_t B,
                             size_t C, size_t h, size_t w);

#endif
