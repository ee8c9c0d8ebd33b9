// kl-network encode|decode WEIGHTS SIDE IN OUT [DEVICE] passes one square image through the
// autoencoder of Stable Diffusion four times and prints the seconds of the fastest. IN and OUT are
// float32 without a header, as tests/bench/vae.py has them. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "formats/weights/kl-file.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"

#define PASSES 4 // as in tests/bench/vae.py

static int encode_or_decode(struct autoencoder *ae, bool encode, size_t side, const float *from,
                            float *to)
{
    size_t latent = ae->channels * (side / ae->downsample) * (side / ae->downsample);
    return encode ? kl_encode_pixels(ae, from, side, side, to, to + latent)
                  : kl_decode_pixels(ae, from, side, side, to);
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: kl-network encode|decode WEIGHTS SIDE IN OUT [DEVICE]\n");
        return 64;
    }
    bool encode = strcmp(argv[1], "encode") == 0;
    size_t side = strtoul(argv[3], NULL, 10), pixels = 3 * side * side;
    char why[256];
    struct device *device =
        device_open(argc > 6 ? argv[6] : "auto", (int)sysconf(_SC_NPROCESSORS_ONLN), why);
    struct autoencoder *ae =
        device ? kl_file_load(device, argv[2], encode ? KL_ENCODER : KL_DECODER) : NULL;
    uint8_t *from = NULL;
    size_t size, latents = ae ? ae->channels * pixels / 3 / ae->downsample / ae->downsample : 0;
    size_t n = encode ? 2 * latents : pixels;
    float *to = mem_new(n, sizeof *to);
    bool good = ae && to && file_read_all(argv[4], &from, &size, SIZE_MAX) == 0 &&
                size == (encode ? pixels : latents) * sizeof(float);
    double best = INFINITY;
    for (int pass = 0; pass < PASSES && good; pass++) {
        double start = clock_seconds();
        good = encode_or_decode(ae, encode, side, (const float *)(const void *)from, to) == 0;
        best = fmin(best, clock_seconds() - start);
    }
    if (good)
        printf("%.3f\n", best);
    struct output *output = good ? output_open(argv[5]) : NULL;
    good = output && output_write(output, to, n * sizeof *to) == 0 && output_commit(output) == 0;
    if (!good)
        fprintf(stderr, "kl-network: %s\n", device ? error_message() : why);
    free(from);
    free(to);
    autoencoder_close(ae);
    device_close(device);
    return good ? 0 : 70;
}
