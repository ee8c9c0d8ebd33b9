// What all autoencoders share. SPDX-License-Identifier: MIT
#include "lib/autoencoder.h"

#include <math.h>

#include "lib/error.h"

void autoencoder_close(struct autoencoder *ae)
{
    if (ae)
        ae->close(ae);
}

int autoencoder_check_finite(const float *latents, size_t B, size_t C, size_t h, size_t w)
{
    for (size_t i = 0; i < B * C * h * w; i++) {
        if (!isfinite(latents[i]))
            return error_set(STATUS_DATA,
                             "latent %zu of the batch: the value at channel %zu, row %zu, column "
                             "%zu is %g, expected a finite number",
                             i / (C * h * w), i / (h * w) % C, i / w % h, i % w, latents[i]);
    }
    return 0;
}
