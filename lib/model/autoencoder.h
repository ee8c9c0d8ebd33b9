// Autoencoders, which turn images into latents and back. SPDX-License-Identifier: MIT
// formats/weights/autoencoder-open.h opens one by name or file.
#ifndef DIT_AUTOENCODER_H
#define DIT_AUTOENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"

struct autoencoder {
    const char *name;  // for metadata and messages: "dct:10,3", or the name of the weights' file
    size_t channels;   // of a latent
    size_t downsample; // image side / latent side; it divides the sides of all images
    double scale;      // latents are the autoencoder's values times this
    bool spread;       // encode gives a distribution: a standard deviation too
    struct device *device;
    // Encodes images (B,H,W,3) into mean and std (B,C,h,w), multiplied by scale; std is unused
    // without spread. All in host memory. -1 with an error.
    int (*encode)(struct autoencoder *ae, const uint8_t *images, size_t B, size_t H, size_t W,
                  float *mean, float *std);
    // Decodes latents (B,C,h,w) into images (B,H,W,3). -1 with an error, also if a value is not
    // finite.
    int (*decode)(struct autoencoder *ae, const float *latents, size_t B, size_t H, size_t W,
                  uint8_t *images);
    void (*close)(struct autoencoder *ae);
};

// Makes the built-in autoencoder. Its latents are the first n_y coefficients of the 8x8 DCT of Y,
// and n_c of Cb and of Cr, in zig-zag order: with the default of 10 and 3, 16 channels. NULL with
// an error.
struct autoencoder *autoencoder_new_dct(struct device *device, size_t n_y, size_t n_c);
void autoencoder_close(struct autoencoder *ae); // NULL is fine

// -1 with an error that names the place if one of values (B,C,h,w) is not finite. `what` says what
// the arrays are, such as "latent"; `first` is the number of the first in its batch.
int autoencoder_check_finite(const char *what, size_t first, const float *values, size_t B,
                             size_t C, size_t h, size_t w);

#endif
