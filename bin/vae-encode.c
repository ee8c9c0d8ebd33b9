// Images to latents. SPDX-License-Identifier: MIT
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
    int image;               // index of the tensor in the input
    struct latent_fields to; // of the output
    enum dtype dtype;        // of the latents
    size_t height, width;    // of an image
    bool sample;
    float *mean, *std; // of a batch
};

static void mirror(uint8_t *images, size_t rows, size_t width)
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

// mean + std * noise, of records first, first + 1, ...; step tells an image from its twin.
static void draw(const struct encoder *e, size_t n, uint64_t first, uint32_t step)
{
    for (size_t i = 0; i < n; i++) {
        struct rng rng = {tool.seed, RNG_LATENT, step, first + i};
        for (size_t k = 0; k < e->to.count; k++) {
            size_t at = i * e->to.count + k;
            e->mean[at] += e->std[at] * (float)rng_normal(&rng, k);
        }
    }
}

// Writes n latents into a tensor of `out`, if each can be held by its type.
static int store(const struct encoder *e, const float *values, size_t n, uint64_t first,
                 struct batch *out, size_t row, int field)
{
    for (size_t i = 0; i < n; i++)
        if (latent_check(values + i * e->to.count, e->to.count, e->dtype) < 0)
            return error_prefix("record %" PRIu64 ": its latent", first + i);
    size_t size = e->to.count * dtype_size(e->dtype);
    return floats_write(out->data[field] + row * size, e->dtype, values, n * e->to.count);
}

static int encode_side(struct encoder *e, struct batch *in, struct batch *out, size_t row,
                       int mean_field, int std_field, uint32_t step)
{
    size_t n = in->rows;
    if (e->ae->encode(e->ae, in->data[e->image], n, e->height, e->width, e->mean, e->std))
        return error_prefix("records from %" PRIu64, in->first);
    if (e->sample && e->ae->spread)
        draw(e, n, in->first, step);
    if (store(e, e->mean, n, in->first, out, row, mean_field))
        return -1;
    return std_field < 0 ? 0 : store(e, e->std, n, in->first, out, row, std_field);
}

static int encode(void *user, struct batch *in, struct batch *out, size_t row)
{
    struct encoder *e = user;
    if (encode_side(e, in, out, row, e->to.mean, e->to.std, 0))
        return -1;
    if (e->to.mean_flip >= 0) {
        mirror(in->data[e->image], in->rows * e->height, e->width);
        if (encode_side(e, in, out, row, e->to.mean_flip, e->to.std_flip, 1) < 0)
            return -1;
    }
    progress_add(in->rows);
    return 0;
}

// Checks the images and makes the schema of their latents.
static struct schema *make_schema(struct encoder *e, const struct schema *in, const char *name,
                                  bool flip)
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
    schema_set(out, "count", NULL); // the first segment's; more may follow
    schema_remove(out, "image");
    if (latent_fields_add(out, e->ae->spread && !e->sample, flip, e->dtype, latent, &e->to) ||
        schema_set(out, "kind", "latents") ||
        (e->height == e->width && schema_set(out, "image_size", "%zu", e->height)) ||
        schema_set(out, "autoencoder", "%s", e->ae->name) ||
        schema_set(out, "latent_scale", "%.9g", e->ae->scale) ||
        schema_add_provenance(out, tool_provenance())) {
        error_prefix("%s", name);
        schema_free(out);
        return NULL;
    }
    return out;
}

int main(int argc, char **argv)
{
    static const char *const dtype_names[] = {"f16", "bf16", "f32", NULL};
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    const char *vae = NULL;
    bool flip = false, sample = false;
    int dtype = 0;
    int64_t n = 0;
    const struct option options[] = {
        {"vae", 0, OPTION_STRING, &vae, "FILE",
         "the autoencoder, or dct (default: $DIT_VAE, or dct)", 0, 0, NULL},
        {"flip", 0, OPTION_FLAG, &flip, NULL, "add the latents of the mirrored images", 0, 0, NULL},
        {"sample", 0, OPTION_FLAG, &sample, NULL, "one draw of each latent, not its mean and std",
         0, 0, NULL},
        {"dtype", 0, OPTION_CHOICE, &dtype, "TYPE", "f16, bf16 or f32 (default f16)", 0, 0,
         dtype_names},
        {"batch", 'b', OPTION_INT, &n, "N", "images encoded at a time (default 16, by dct 1)", 1,
         4096, NULL},
        TOOL_OPTION_SEED,
        TOOL_OPTION_DEVICE,
        TOOL_OPTION_THREADS,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **inputs =
        tool_start(argc, argv,
                   &(struct tool_info){"vae-encode", "[OPTION]... [FILE]",
                                       "Encode a stream of images into latents.", options});
    if (tool_count(inputs) > 1)
        tool_usage_error("one input at most; tstream-cat joins several");

    struct output *output = output_open(tool.output);
    struct device *device = output ? tool_open_device() : NULL;
    struct autoencoder *ae = device ? autoencoder_open(device, vae, KL_ENCODER) : NULL;
    struct tstream_reader *in = ae ? tstream_open(inputs[0], tool.threads) : NULL;
    if (!in)
        tool_fail();
    if (!n) // the built-in one is as fast by one, and that stays in the processor's cache
        n = ae->spread ? 16 : 1;
    struct encoder e = {.ae = ae, .sample = sample, .dtype = dtypes[dtype]};
    struct schema *schema = make_schema(&e, tstream_schema(in), tstream_name(in), flip);
    if (!schema || !(e.mean = mem_new(n, e.to.count * sizeof(float))) ||
        !(e.std = mem_new(n, e.to.count * sizeof(float))))
        tool_fail();
    uint64_t count = 0; // 0: not known
    schema_count(tstream_schema(in), &count);
    progress_start("images", count);
    struct tstream_writer *out = tstream_create(output, schema, tool.threads, tool_level(output));
    if (!out || transform_stream(in, out, schema, n, encode, &e) < 0)
        tool_fail();
    tstream_close(in);
    schema_free(schema);
    free(e.mean);
    free(e.std);
    autoencoder_close(ae);
    device_close(device);
    return tool_finish();
}
