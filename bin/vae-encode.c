// vae-encode: a stream of images -> a stream of latents. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>

#include "formats/latents/latent-fields.h"
#include "formats/tstream/transform.h"
#include "formats/tstream/tstream.h"
#include "formats/weights/autoencoder-open.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/autoencoder.h"
#include "lib/tool/tool-device.h"
#include "lib/tool/tool.h"

struct encoder {
    struct autoencoder *ae;
    int image;               // index of the input's tensor
    struct latent_fields to; // the output's
    enum dtype dtype;        // of the output's latents
    size_t height, width;    // of an image
    bool sample;
    float *mean, *std; // of a batch
};

// Mirrors rows (rows, width, 3) left to right.
static void mirror_rows(uint8_t *images, size_t rows, size_t width)
{
    for (size_t row = 0; row < rows; row++, images += width * 3) {
        for (size_t i = 0, j = width - 1; i < j; i++, j--) {
            for (size_t c = 0; c < 3; c++) {
                uint8_t pixel = images[i * 3 + c];
                images[i * 3 + c] = images[j * 3 + c];
                images[j * 3 + c] = pixel;
            }
        }
    }
}

// Replaces the means of records first, first + 1, ... by mean + std * noise. Mirrored images get
// other noise by another step.
static void draw_latents(const struct encoder *e, size_t n, uint64_t first, uint32_t step)
{
    for (size_t i = 0; i < n; i++) {
        struct rng rng = {tool.seed, RNG_LATENT, step, first + i};
        for (size_t k = 0; k < e->to.count; k++) {
            size_t at = i * e->to.count + k;
            e->mean[at] += e->std[at] * (float)rng_normal(&rng, k);
        }
    }
}

// Writes n latents into a tensor of `out`. -1 with an error if a value does not fit its type.
static int store_latents(const struct encoder *e, const float *values, size_t n, uint64_t first,
                         struct batch *out, size_t row, int field)
{
    for (size_t i = 0; i < n; i++)
        if (latent_check(values + i * e->to.count, e->to.count, e->dtype) < 0)
            return error_prefix("record %" PRIu64 ": its latent", first + i);
    size_t size = e->to.count * dtype_size(e->dtype);
    return floats_write(out->data[field] + row * size, e->dtype, values, n * e->to.count);
}

// Encodes the images into tensor mean_field and, unless it is -1, std_field.
static int encode_side(struct encoder *e, struct batch *in, struct batch *out, size_t row,
                       int mean_field, int std_field, uint32_t step)
{
    size_t n = in->rows;
    if (e->ae->encode(e->ae, in->data[e->image], n, e->height, e->width, e->mean, e->std) < 0)
        return error_prefix("records from %" PRIu64, in->first);
    if (e->sample && e->ae->spread)
        draw_latents(e, n, in->first, step);
    if (store_latents(e, e->mean, n, in->first, out, row, mean_field) < 0)
        return -1;
    return std_field < 0 ? 0 : store_latents(e, e->std, n, in->first, out, row, std_field);
}

static int encode_images(void *user, struct batch *in, struct batch *out, size_t row)
{
    struct encoder *e = user;
    if (encode_side(e, in, out, row, e->to.mean, e->to.std, 0) < 0)
        return -1;
    if (e->to.mean_flip >= 0) {
        mirror_rows(in->data[e->image], in->rows * e->height, e->width);
        if (encode_side(e, in, out, row, e->to.mean_flip, e->to.std_flip, 1) < 0)
            return -1;
    }
    progress_add(in->rows);
    return 0;
}

// Checks the images and makes the output's schema. NULL with an error.
static struct schema *encoded_schema_new(struct encoder *e, const struct schema *in,
                                         const char *name, bool flip)
{
    e->image = schema_expect(in, "image", DTYPE_U8, 3);
    if (e->image < 0) {
        error_prefix("%s", name);
        return NULL;
    }
    const size_t *image = in->fields[e->image].shape;
    size_t f = e->ae->downsample, latent[3] = {e->ae->channels, image[0] / f, image[1] / f};
    if (image[0] % f || image[1] % f || image[0] == 0 || image[1] == 0 || image[2] != 3) {
        error_set(
            STATUS_DATA,
            "%s: images of [%zu, %zu, %zu]; the autoencoder %s takes sides that are multiples "
            "of %zu, and 3 channels",
            name, image[0], image[1], image[2], e->ae->name, f);
        return NULL;
    }
    e->height = image[0];
    e->width = image[1];
    struct schema *out = schema_copy(in);
    if (!out)
        return NULL;
    schema_set(out, "count", NULL); // it counts the first segment only
    schema_remove(out, "image");
    if (latent_fields_add(out, e->ae->spread && !e->sample, flip, e->dtype, latent, &e->to) < 0 ||
        schema_set(out, "kind", "latents") < 0 ||
        (e->height == e->width && schema_set(out, "image_size", "%zu", e->height) < 0) ||
        schema_set(out, "autoencoder", "%s", e->ae->name) < 0 ||
        schema_set(out, "latent_scale", "%.9g", e->ae->scale) < 0 ||
        schema_add_provenance(out, tool_provenance()) < 0) {
        error_prefix("%s", name);
        schema_free(out);
        return NULL;
    }
    return out;
}

int main(int argc, char **argv)
{
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    const char *vae = NULL;
    bool flip = false, sample = false;
    int dtype = 0;
    int64_t n = 0;
    const struct option options[] = {
        OPTION_STRING("vae", 0, &vae, "FILE",
                      "autoencoder, or dct for the built-in one (default: $DIT_VAE, or dct)"),
        OPTION_FLAG("flip", 0, &flip, "also encode the mirrored images"),
        OPTION_FLAG("sample", 0, &sample,
                    "write a random draw of each latent instead of mean and deviation"),
        OPTION_CHOICE("dtype", 0, &dtype, "type of the latents (default f16)", "f16", "bf16",
                      "f32"),
        OPTION_INT("batch", 'b', &n, 1, 4096,
                   "images encoded at a time (default 16, or 1 with dct)"),
        TOOL_OPTION_SEED,
        TOOL_OPTION_DEVICE,
        TOOL_OPTION_PRECISION,
        TOOL_OPTION_DETERMINISTIC,
        TOOL_OPTION_THREADS,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands =
        tool_start(argc, argv,
                   &(struct tool_info){"vae-encode", "[OPTION]... [FILE]",
                                       "Encode a stream of images into latents.", options});
    const char *input = tool_one_input(operands);

    struct output *output = output_open(tool.output);
    struct device *device = output ? tool_open_device() : NULL;
    struct autoencoder *ae = device ? autoencoder_open(device, vae, KL_ENCODER) : NULL;
    struct tstream_reader *in = ae ? tstream_open(input, tool.threads) : NULL;
    if (!in)
        tool_fail();
    if (!n) // the built-in one gains nothing from batches, and one image stays in the cache
        n = ae->spread ? 16 : 1;
    struct encoder e = {.ae = ae, .sample = sample, .dtype = dtypes[dtype]};
    struct schema *schema = encoded_schema_new(&e, tstream_schema(in), tstream_name(in), flip);
    if (!schema || !(e.mean = mem_new(n, e.to.count * sizeof(float))) ||
        !(e.std = mem_new(n, e.to.count * sizeof(float))))
        tool_fail();
    uint64_t count = 0; // 0: unknown
    schema_count(tstream_schema(in), &count);
    progress_start("images", count);
    struct tstream_writer *out = tstream_create(output, schema, tool.threads, tool_level(output));
    if (!out || transform_stream(in, out, schema, n, encode_images, &e) < 0)
        tool_fail();
    tstream_close(in);
    schema_free(schema);
    free(e.mean);
    free(e.std);
    autoencoder_close(ae);
    device_close(device);
    return tool_finish();
}
