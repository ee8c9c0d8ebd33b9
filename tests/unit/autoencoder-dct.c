// The built-in autoencoder decodes what it encodes, and autoencoders are opened by their names.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <string.h>

#include "formats/weights/autoencoder-open.h"
#include "formats/weights/weights.h"
#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "tests/tap.h"

#define SIDE 256

static int worst_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
    int worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = abs(a[i] - b[i]) > worst ? abs(a[i] - b[i]) : worst;
    return worst;
}

static void test_round_trip(struct device *device)
{
    enum { B = 3, H = 24, W = 40, C = 192 };
    static uint8_t images[B * H * W * 3], back[B * H * W * 3];
    static float latents[B * C * (H / 8) * (W / 8)];
    struct rng rng = {tap_seed(1), RNG_TEST, 0, 0};
    for (size_t i = 0; i < sizeof(images); i++)
        images[i] = (uint8_t)rng_u32(&rng, i);
    struct autoencoder *ae = autoencoder_new_dct(device, 64, 64);
    ok(ae->channels == C && ae->downsample == 8 && !ae->spread &&
           strcmp(ae->name, "dct:64,64") == 0,
       "dct with 64 coefficients of each component has 192 channels");
    bool good = ae->encode(ae, images, B, H, W, latents, NULL) == 0 &&
                ae->decode(ae, latents, B, H, W, back) == 0;
    int worst = worst_difference(images, back, sizeof(images));
    ok(good && worst <= 1, "all 192 coefficients give random pixels back within %d grey level",
       worst);

    float first[C];
    good = ae->encode(ae, images, 1, 8, 8, first, NULL) == 0;
    double mean = 0;
    for (size_t i = 0; i < 64; i++)
        mean +=
            (0.299 * images[3 * i] + 0.587 * images[3 * i + 1] + 0.114 * images[3 * i + 2]) / 64;
    ok(good && fabs(first[0] - 8 * (mean / 127.5 - 1) * ae->scale) < 1e-4,
       "channel 0 is 8 times the block's mean luma, times the scale");

    latents[C * 15 + 17] = NAN;
    ok(ae->decode(ae, latents, B, H, W, back) < 0 && error_status() == STATUS_DATA &&
           strstr(error_message(), "latent 1 ") && strstr(error_message(), "channel 1, row 0"),
       "a latent that is not finite is an error that names its place");
    diag("%s", error_message());
    autoencoder_close(ae);
}

// Sums over the channels and positions of the latents of one image.
struct spread {
    double sum[16], squares[16];
    size_t count; // of each channel
};

static double psnr(struct autoencoder *ae, const uint8_t *image, struct spread *spread)
{
    enum { BLOCKS = SIDE / 8 * (SIDE / 8), N = SIDE * SIDE * 3 };
    static float latent[16 * BLOCKS];
    static uint8_t back[N];
    if (ae->encode(ae, image, 1, SIDE, SIDE, latent, NULL) ||
        ae->decode(ae, latent, 1, SIDE, SIDE, back))
        return 0;
    for (size_t i = 0; i < 16 * BLOCKS; i++) {
        spread->sum[i / BLOCKS] += latent[i];
        spread->squares[i / BLOCKS] += (double)latent[i] * latent[i];
    }
    spread->count += BLOCKS;
    double squares = 0;
    for (size_t i = 0; i < N; i++)
        squares += (double)(image[i] - back[i]) * (image[i] - back[i]);
    return 10 * log10(255.0 * 255.0 * N / squares);
}

static void test_images(struct device *device)
{
    char path[4096];
    struct weights file;
    snprintf(path, sizeof(path), "%s/images-expected.safetensors", reference_dir());
    struct autoencoder *ae = autoencoder_open(device, "dct", KL_BOTH);
    if (!ok(ae && ae->channels == 16 && strcmp(ae->name, "dct:10,3") == 0,
            "the built-in autoencoder has 16 channels by default") ||
        !ok(weights_open(&file, path) == 0, "the reference images open"))
        return;
    struct spread spread = {.count = 0};
    double worst = HUGE_VAL, landscape = 0;
    for (size_t i = 0; i < file.n_weights; i++) {
        const struct weight *tensor = &file.all[i];
        if (weight_count(tensor) != SIDE * SIDE * 3)
            continue;
        double db = psnr(ae, tensor->data, &spread);
        worst = db < worst ? db : worst;
        if (strcmp(tensor->name, "landscape.jpg:256") == 0)
            landscape = db;
    }
    ok(landscape > 35, "a picture comes back from 16 channels with %.1f dB", landscape);
    ok(worst > 28, "all pictures come back with %.1f dB or more", worst);
    double variance = 0;
    for (size_t c = 0; c < 16; c++) {
        double mean = spread.sum[c] / spread.count;
        variance += (spread.squares[c] / spread.count - mean * mean) / 16;
    }
    ok(sqrt(variance) > 0.5 && sqrt(variance) < 2,
       "latents of pictures have about unit spread: %.2f", sqrt(variance));
    weights_close(&file);
    autoencoder_close(ae);
}

static void opens(struct device *device, const char *spec, const char *name, size_t channels)
{
    struct autoencoder *ae = autoencoder_open(device, spec, KL_BOTH);
    ok(ae && strcmp(ae->name, name) == 0 && ae->channels == channels, "the autoencoder %s is %s%s",
       spec ? spec : "of no name", name, getenv("DIT_VAE") ? " where DIT_VAE is set" : "");
    autoencoder_close(ae);
}

static void refuses(struct device *device, const char *spec, enum status status, const char *text)
{
    struct autoencoder *ae = autoencoder_open(device, spec, KL_BOTH);
    ok(!ae && error_status() == status && strstr(error_message(), text) &&
           strstr(error_message(), spec),
       "'%s' is refused with status %d", spec, status);
    diag("%s", error_message());
    autoencoder_close(ae);
}

// Opens the autoencoder of latents of 12 channels whose metadata records this name.
static struct autoencoder *open_recorded(struct device *device, const char *spec,
                                         const char *recorded)
{
    json_t *metadata = json_pack("{s:s}", "autoencoder", recorded);
    struct autoencoder *ae = autoencoder_open_for(device, spec, metadata, 12, KL_DECODER, "x");
    json_decref(metadata);
    return ae;
}

static void test_names(struct device *device)
{
    unsetenv("DIT_VAE");
    opens(device, NULL, "dct:10,3", 16);
    opens(device, "dct", "dct:10,3", 16);
    opens(device, "dct:16", "dct:10,3", 16);
    opens(device, "dct:1", "dct:1,0", 1);
    opens(device, "dct:4", "dct:2,1", 4);
    opens(device, "dct:191", "dct:63,64", 191);
    opens(device, "dct:192", "dct:64,64", 192);
    opens(device, "dct:12,0", "dct:12,0", 12);
    setenv("DIT_VAE", "dct:3", 1);
    opens(device, NULL, "dct:1,1", 3);
    opens(device, "dct", "dct:10,3", 16);
    static const char *const malformed[] = {"dct:",      "dct:0",    "dct:193",
                                            "dct:0,3",   "dct:65,1", "dct:1,65",
                                            "dct:1,2,3", "dct:+1",   "dct:16x"};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(*malformed); i++)
        refuses(device, malformed[i], STATUS_USAGE, "dct:Y,C");
    refuses(device, "/nonexistent/vae.safetensors", STATUS_NO_INPUT, "No such file");
    refuses(device, "/dev/null", STATUS_NO_INPUT, "expected a regular file");

    struct autoencoder *ae = open_recorded(device, NULL, "dct:12,0");
    ok(ae && strcmp(ae->name, "dct:12,0") == 0, "the autoencoder that the latents name is opened");
    autoencoder_close(ae);
    ae = open_recorded(device, "dct:12", "dct:12,0");
    ok(ae && strcmp(ae->name, "dct:8,2") == 0,
       "an autoencoder that is asked for goes before the one that the latents name");
    autoencoder_close(ae);
    ok(!open_recorded(device, "dct:16", "dct:12,0") && error_status() == STATUS_DATA &&
           strstr(error_message(), "dct:12,0") && strstr(error_message(), "dct:10,3"),
       "a wrong number of channels is an error that names both");
    diag("%s", error_message());
    ok(!open_recorded(device, NULL, "dct:0") && error_status() == STATUS_DATA,
       "a malformed name of an autoencoder in the data is bad data");
    diag("%s", error_message());
}

int main(void)
{
    char why[256];
    struct device *device = device_open("cpu", 2, why);
    if (!ok(device != NULL, "the cpu device opens"))
        return tap_done();
    test_round_trip(device);
    test_images(device);
    test_names(device);
    device_close(device);
    return tap_done();
}
