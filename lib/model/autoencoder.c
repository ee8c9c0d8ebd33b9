// The functions that all autoencoders share. SPDX-License-Identifier: MIT
#include "lib/model/autoencoder.h"

#include <math.h>

#include "lib/base/error.h"

void autoencoder_close(struct autoencoder *ae)
{
    if (ae)
        ae->close(ae);
}

int autoencoder_check_finite(const char *what, size_t first, const float *values, size_t B,
                             size_t C, size_t h, size_t w)
{
    for (size_t i = 0; i < B * C * h * w; i++) {
        if (!isfinite(values[i]))
            return error_set(STATUS_DATA,
                             "%s %zu of the batch: the value at channel %zu, row %zu, column %zu "
                             "is %g, expected a finite number",
                             what, first + i / (C * h * w), i / (h * w) % C, i / w % h, i % w,
                             values[i]);
    }
    return 0;
}
