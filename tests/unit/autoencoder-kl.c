// AutoencoderKL agrees with the published implementation, whatever names a file gives its weights.
// Also tests batches, tiles, memory and values that are not finite.
// SPDX-License-Identifier: MIT
#include "formats/weights/kl-file.h"
#include "lib/model/autoencoder-tiles.h"
#include "tests/reference.h"

#define C 4 // channels of a latent
#define F 8 // image side / latent side

static struct autoencoder *load(struct device *device, const char *file, enum kl_half half)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", reference_dir(), file);
    struct autoencoder *ae = kl_file_load(device, path, half);
    if (!ae)
        bail_out();
    return ae;
}

static struct device *open_device(const char *name)
{
    char why[256];
    struct device *device = device_open(name, 1, why);
    if (!device) {
        error_set(STATUS_INTERNAL, "%s: %s", name, why);
        bail_out();
    }
    return device;
}

// The bounds are twice the largest errors that were seen, including those in the CUDA simulator.
static void expect(const struct device *device, double error, const char *what)
{
    const struct backend *backend = device->backend;
    const double most = backend->act_size == 2 ? 4e-2 : strstr(backend->name, "tf32") ? 3e-3 : 1e-5;
    if (!ok(error <= most, "%s: %s agrees with the reference within %g", backend->name, what, most))
        diag("relative error %g", error);
}

// Encodes the image called `input`; expects its mean and, unless NULL, logvar.
static void check_encoder(struct autoencoder *ae, const struct weights *io, const char *input,
                          size_t n, size_t H, size_t W, const char *mean_name,
                          const char *logvar_name)
{
    const size_t size = C * (H / F) * (W / F);
    float *x = reference_floats(io, input, NULL), *mean = mem_new(n * size, sizeof *mean);
    float *std = mem_new(n * size, sizeof *std), *expected = reference_floats(io, mean_name, NULL);
    for (size_t b = 0; b < n; b++)
        if (kl_encode_pixels(ae, x + b * 3 * H * W, H, W, mean + b * size, std + b * size) < 0)
            bail_out();
    for (size_t i = 0; i < n * size; i++) {
        mean[i] /= (float)KL_SCALE;
        std[i] = 2 * logf(std[i] / (float)KL_SCALE);
    }
    expect(ae->device, relative_error(mean, expected, n * size), mean_name);
    free(expected);
    if (logvar_name) {
        expected = reference_floats(io, logvar_name, NULL);
        expect(ae->device, relative_error(std, expected, n * size), logvar_name);
        free(expected);
    }
    free(x), free(mean), free(std);
}

static void check_decoder(struct autoencoder *ae, const struct weights *io, size_t n)
{
    const size_t H = 64, W = 64, size = 3 * H * W;
    float *z = reference_floats(io, "z", NULL), *expected = reference_floats(io, "decoded", NULL);
    float *pixels = mem_new(n * size, sizeof *pixels);
    for (size_t b = 0; b < n; b++)
        if (kl_decode_pixels(ae, z + b * C * 64, H, W, pixels + b * size) < 0)
            bail_out();
    expect(ae->device, relative_error(pixels, expected, n * size), "decoded");
    free(z), free(expected), free(pixels);
}

// Tests the first n of the reference's two images.
static void test_reference(const char *backend, size_t n)
{
    struct device *device = open_device(backend);
    struct autoencoder *ae = load(device, "vae-diffusers-half.safetensors", KL_BOTH);
    struct weights io = reference_open("vae-io");
    check_encoder(ae, &io, "x", n, 64, 64, "mean", "logvar");
    check_encoder(ae, &io, "rect_x", 1, 72, 56, "rect_mean", NULL);
    check_decoder(ae, &io, n);
    weights_close(&io);
    autoencoder_close(ae);
    device_close(device);
}

// Fills an image with a pattern that depends on `seed`.
static void paint(uint8_t *image, size_t H, size_t W, unsigned seed)
{
    for (size_t y = 0; y < H; y++)
        for (size_t x = 0; x < W; x++)
            for (size_t c = 0; c < 3; c++)
                *image++ = (uint8_t)(127.5 + 90 * sin(0.11 * (double)(x * (c + 1) + seed * y)) +
                                     (double)((x * 7 + y * 13 + seed) % 31));
}

static void test_names(struct device *device)
{
    static const char *const files[] = {"vae-diffusers.safetensors",
                                        "vae-diffusers-old.safetensors", "vae-diffusers.bin",
                                        "vae-compvis.ckpt"};
    enum { H = 24, W = 16, LATENT = C * 3 * 2 };
    uint8_t image[H * W * 3], expected_image[H * W * 3], got_image[H * W * 3];
    float expected[2 * LATENT], got[2 * LATENT];
    paint(image, H, W, 1);
    struct autoencoder *ae = load(device, "vae-diffusers-half.safetensors", KL_BOTH);
    if (ae->encode(ae, image, 1, H, W, expected, expected + LATENT) < 0 ||
        ae->decode(ae, expected, 1, H, W, expected_image) < 0)
        bail_out();
    autoencoder_close(ae);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", reference_dir(), files[i]);
        if (access(path, R_OK) < 0) {
            skip(files[i], "not in the folder of reference data");
            continue;
        }
        ae = load(device, files[i], KL_ENCODER);
        bool good = strcmp(ae->name, files[i]) == 0 &&
                    ae->encode(ae, image, 1, H, W, got, got + LATENT) == 0 &&
                    memcmp(got, expected, sizeof got) == 0;
        autoencoder_close(ae);
        ae = load(device, files[i], KL_DECODER);
        ok(good && ae->decode(ae, got, 1, H, W, got_image) == 0 &&
               memcmp(got_image, expected_image, sizeof got_image) == 0,
           "%s holds the same weights", files[i]);
        autoencoder_close(ae);
    }
}

static void test_batches(const char *backend)
{
    struct device *device = open_device(backend);
    struct autoencoder *ae = load(device, "vae-diffusers-half.safetensors", KL_BOTH);
    enum { B = 3, H = 32, W = 48, IMAGE = H * W * 3, LATENT = C * 4 * 6 };
    static uint8_t images[B * IMAGE], decoded[B * IMAGE], one_image[IMAGE];
    float mean[B * LATENT], std[B * LATENT], one_mean[LATENT], one_std[LATENT];
    for (unsigned b = 0; b < B; b++)
        paint(images + b * IMAGE, H, W, b);
    bool same = ae->encode(ae, images, B, H, W, mean, std) == 0 &&
                ae->decode(ae, mean, B, H, W, decoded) == 0;
    for (size_t b = 0; b < B && same; b++)
        same = ae->encode(ae, images + b * IMAGE, 1, H, W, one_mean, one_std) == 0 &&
               ae->decode(ae, one_mean, 1, H, W, one_image) == 0 &&
               memcmp(one_mean, mean + b * LATENT, sizeof one_mean) == 0 &&
               memcmp(one_std, std + b * LATENT, sizeof one_std) == 0 &&
               memcmp(one_image, decoded + b * IMAGE, sizeof one_image) == 0;
    ok(same, "the images of a batch don't depend on each other on %s", backend);
    autoencoder_close(ae);
    device_close(device);
}

static void test_finite(struct autoencoder *ae)
{
    enum { H = 16, W = 24, LATENT = C * 2 * 3 };
    static uint8_t image[2 * H * W * 3];
    float mean[2 * LATENT] = {0}, std[2 * LATENT], bias[3] = {0, NAN, 0};
    const struct layout *layout = kl_get_layout(ae);
    paint(image, 2 * H, W, 1);

    mean[LATENT + 7] = INFINITY;
    ok(ae->decode(ae, mean, 2, H, W, image) < 0 && error_status() == STATUS_DATA &&
           strstr(error_message(), "latent 1 of the batch: the value at channel 1, row 0, column 1 "
                                   "is inf"),
       "a latent that is not finite is named");
    diag("%s", error_message());
    mean[LATENT + 7] = 0;
    kl_set_param(ae, layout_find(layout, "decoder.conv_out.bias"), bias);
    ok(ae->decode(ae, mean, 2, H, W, image) < 0 && error_status() == STATUS_DATA &&
           strstr(error_message(), "safetensors: decoded image 0 of the batch: the value at "
                                   "channel 1, row 0, column 0 is nan"),
       "a decoded value that is not finite is named");
    diag("%s", error_message());
    kl_set_param(ae, layout_find(layout, "encoder.conv_norm_out.bias"),
                 (float[64]){[9] = INFINITY});
    ok(ae->encode(ae, image, 2, H, W, mean, std) < 0 && error_status() == STATUS_DATA &&
           strstr(error_message(), "safetensors: mean of latent 0 of the batch: the value at "),
       "an encoded value that is not finite is named");
    diag("%s", error_message());
}

// Replaces the network by one whose outputs depend on one pixel only. encode copies the upper left
// byte of each F x F block, decode the first three channels of the latent. If `number`, both ignore
// their input and give the number of the tile.
struct local {
    struct autoencoder base;
    bool number;
    size_t tiles, largest; // tiles seen, pixels of the largest
};

static int encode_local(struct autoencoder *ae, const uint8_t *images, size_t B, size_t H, size_t W,
                        float *mean, float *std)
{
    struct local *local = (struct local *)ae;
    (void)B;
    local->largest = H * W > local->largest ? H * W : local->largest;
    for (size_t y = 0; y < H / F; y++)
        for (size_t x = 0; x < W / F; x++)
            for (size_t c = 0; c < 3; c++) {
                size_t at = (c * (H / F) + y) * (W / F) + x;
                mean[at] = local->number ? (float)local->tiles : images[(y * W + x) * F * 3 + c];
                std[at] = -mean[at];
            }
    local->tiles++;
    return 0;
}

static int decode_local(struct autoencoder *ae, const float *latents, size_t B, size_t H, size_t W,
                        uint8_t *images)
{
    struct local *local = (struct local *)ae;
    (void)B;
    for (size_t y = 0; y < H; y++)
        for (size_t x = 0; x < W; x++)
            for (size_t c = 0; c < 3; c++)
                images[(y * W + x) * 3 + c] =
                    local->number ? (uint8_t)(100 * local->tiles)
                                  : (uint8_t)latents[(c * (H / F) + y / F) * (W / F) + x / F];
    local->tiles++;
    return 0;
}

static struct local new_local(bool number)
{
    return (struct local){.base = {.channels = 3,
                                   .downsample = F,
                                   .spread = true,
                                   .encode = encode_local,
                                   .decode = decode_local},
                          .number = number};
}

static void test_tiles(size_t H, size_t W, size_t tiles)
{
    const size_t side = 96, overlap = 32, n = H / F * (W / F);
    uint8_t *image = mem_new(H * W, 3), *decoded = mem_new(H * W, 3);
    float *latent = mem_new(6 * n, sizeof *latent), *whole = mem_new(6 * n, sizeof *whole);
    struct local local = new_local(false), reference = new_local(false);
    memset(latent, 0xff, 6 * n * sizeof *latent); // NaN where nothing is written
    paint(image, H, W, 2);
    encode_local(&reference.base, image, 1, H, W, whole, whole + 3 * n);
    ok(autoencoder_encode_tiles(&local.base, side, overlap, image, H, W, latent, latent + 3 * n) ==
               0 &&
           relative_error(latent, whole, 6 * n) < 1e-6,
       "encoding %zux%zu in tiles equals encoding it whole, if encode is local", H, W);
    ok(local.tiles == tiles && local.largest <= side * side,
       "%zux%zu is split into %zu tiles of bounded size", H, W, tiles);
    decode_local(&reference.base, whole, 1, H, W, image);
    ok(autoencoder_decode_tiles(&local.base, side, overlap, whole, H, W, decoded) == 0 &&
           memcmp(decoded, image, H * W * 3) == 0,
       "decoding %zux%zu in tiles equals decoding it whole, if decode is local", H, W);
    free(image), free(decoded), free(latent), free(whole);
}

// Two adjacent tiles with different constant values: across the overlap the result changes linearly
// from one to the other.
static void test_fading(void)
{
    enum { H = 8, W = 160, OVERLAP = 32 };
    struct local local = new_local(true);
    uint8_t image[H * W * 3];
    float latent[2 * 3 * W / F] = {0};
    if (autoencoder_decode_tiles(&local.base, 96, OVERLAP, latent, H, W, image) < 0)
        bail_out();
    bool straight = local.tiles == 2;
    for (size_t x = 0; x < W; x++) {
        double share = fmin(fmax(((double)x - 64 + 0.5) / OVERLAP, 0), 1);
        straight = straight && fabs(image[(3 * W + x) * 3] - 100 * share) <= 0.5;
    }
    ok(straight, "decoded tiles fade into each other linearly");
    local = new_local(true);
    if (autoencoder_encode_tiles(&local.base, 96, OVERLAP, image, H, W, latent,
                                 latent + 3 * W / F) < 0)
        bail_out();
    straight = local.tiles == 2;
    for (size_t x = 0; x < W / F; x++) {
        double share = fmin(fmax(((double)x - 8 + 0.5) / (OVERLAP / F), 0), 1);
        straight = straight && fabs(latent[x] - share) < 1e-6;
    }
    ok(straight, "encoded tiles fade into each other linearly");
}

// An image over the limit is encoded in tiles. One resnet in each of many levels makes little work.
static void test_large(struct device *device)
{
    const struct kl_config config = {8, {32, 32, 32, 32, 32, 32, 32, 32}, 1, 1, 1};
    enum { H = 1152, W = 1024, LATENT = 9 * 8 };
    uint8_t *image = mem_new(H * W, 3);
    float mean[LATENT], std[LATENT];
    struct autoencoder *ae = autoencoder_new_kl(device, &config, KL_ENCODER, "large");
    if (!ae)
        bail_out();
    const struct layout *layout = kl_get_layout(ae);
    // Only quant_conv's biases are not 0: the mean is 0.5, the logvar 2.
    kl_set_param(ae, layout_find(layout, "quant_conv.bias"), (float[]){0.5f, 2});
    bool good = ae->encode(ae, image, 1, H, W, mean, std) == 0;
    for (size_t i = 0; i < LATENT; i++)
        good = good && fabsf(mean[i] - 0.5f) < 1e-6 && fabsf(std[i] - expf(1)) < 1e-5;
    ok(good, "an image of %dx%d is encoded", H, W);
    kl_set_param(ae, layout_find(layout, "quant_conv.bias"), (float[]){NAN, 2});
    ok(ae->encode(ae, image, 1, H, W, mean, std) < 0 &&
           strstr(error_message(), "the tile at row 0, column 0 of the image: large: "),
       "an error in a large image names the tile");
    diag("%s", error_message());
    autoencoder_close(ae);
    free(image);
}

static void test_memory(struct device *device)
{
    const struct kl_config published = KL_PUBLISHED;
    const double pixel_bytes[] = {[KL_ENCODER] = 3 * 128 * 4, [KL_DECODER] = 4 * 128 * 4};
    for (enum kl_half half = KL_ENCODER; half <= KL_DECODER; half++) {
        const char *name = half == KL_ENCODER ? "encoding" : "decoding";
        double most = pixel_bytes[half] * KL_WHOLE_MAX;
        double needed = (double)kl_memory_needed(device, &published, half, 1024, 1024);
        ok(needed > most && needed < 1.02 * most,
           "%s 1024x1024 with the published sizes takes %.2f GiB", name, needed / (1 << 30));
        ok((double)kl_memory_needed(device, &published, half, 16384, 8192) <= needed,
           "%s more pixels takes no more", name);
        ok((double)kl_memory_needed(device, &published, half, 256, 256) < needed / 15,
           "%s fewer pixels takes less", name);
    }
    struct layout layout;
    size_t count = 0;
    if (kl_layout_init(&layout, &published, KL_BOTH) < 0)
        bail_out();
    for (size_t i = 0; i < layout.n_params; i++)
        count += layout.params[i].count;
    ok(count == 83653863, "the published sizes have 83,653,863 parameters");
    layout_free(&layout);
}

static void refuses(struct device *device, struct kl_config config, const char *text)
{
    struct autoencoder *ae = autoencoder_new_kl(device, &config, KL_BOTH, "x");
    ok(!ae && error_status() == STATUS_DATA && strstr(error_message(), text), "refused: %s", text);
    diag("%s", error_message());
    autoencoder_close(ae);
}

static void test_sizes(struct device *device)
{
    refuses(device, (struct kl_config){0, {0}, 2, 4, 1}, "an autoencoder of 0 levels");
    refuses(device, (struct kl_config){9, {0}, 2, 4, 1}, "9 levels");
    refuses(device, (struct kl_config){1, {32}, 0, 4, 1}, "0 resnets");
    refuses(device, (struct kl_config){1, {32}, 2, 0, 1}, "0 latent channels");
    refuses(device, (struct kl_config){1, {32}, 2, 4, -1}, "scale -1");
    refuses(device, (struct kl_config){2, {32, 48}, 2, 4, 1}, "level 1 of the autoencoder has 48");
}

int main(int argc, char **argv)
{
    if (argc > 1) { // the argument is a device
        test_reference(argv[1], 1);
        return tap_done();
    }
    for (size_t i = 0; device_host_name(i); i++)
        test_reference(device_host_name(i), i ? 2 : 1);
    for (size_t i = 1; device_host_name(i); i++) // ref, which is slow, has no batches
        test_batches(device_host_name(i));
    struct device *device = open_device("cpu");
    test_names(device);
    struct autoencoder *ae = load(device, "vae-diffusers-half.safetensors", KL_BOTH);
    test_finite(ae);
    autoencoder_close(ae);
    test_tiles(96, 96, 1);
    test_tiles(104, 96, 2);
    test_tiles(184, 232, 12);
    test_tiles(8, 1000, 16);
    test_tiles(320, 320, 25);
    test_fading();
    test_large(device);
    test_memory(device);
    test_sizes(device);
    device_close(device);
    return tap_done();
}
