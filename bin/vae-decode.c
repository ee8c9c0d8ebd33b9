// vae-decode: a stream of latents -> a stream of images. SPDX-License-Identifier: MIT
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

struct decoder {
    struct autoencoder *ae;
    struct latent_fields from; // the input's
    enum dtype mean_dtype, std_dtype;
    int image;            // index of the output's tensor
    size_t height, width; // of an image
    bool sample;
    float *mean, *std; // of a batch
};

static int decode_latents(void *user, struct batch *in, struct batch *out, size_t row)
{
    struct decoder *d = user;
    const struct latent_fields *from = &d->from;
    size_t values = in->rows * from->count;
    if (floats_read(d->mean, in->data[from->mean], d->mean_dtype, values) < 0)
        return -1;
    if (d->sample && from->std >= 0) {
        if (floats_read(d->std, in->data[from->std], d->std_dtype, values) < 0)
            return -1;
        for (size_t i = 0; i < values; i++) {
            struct rng rng = {tool.seed, RNG_LATENT, 0, in->first + i / from->count};
            d->mean[i] += d->std[i] * (float)rng_normal(&rng, i % from->count);
        }
    }
    uint8_t *images = out->data[d->image] + row * d->height * d->width * 3;
    if (d->ae->decode(d->ae, d->mean, in->rows, d->height, d->width, images) < 0)
        return error_prefix("records from %" PRIu64, in->first);
    progress_add(in->rows);
    return 0;
}

// The output's schema; also sets the image's index and size. NULL with an error.
static struct schema *decoded_schema_new(struct decoder *d, const struct schema *in)
{
    size_t f = d->ae->downsample;
    size_t shape[3] = {d->from.height * f, d->from.width * f, 3};
    struct schema *out = schema_copy(in);
    if (!out)
        return NULL;
    schema_set(out, "count", NULL); // it counts the first segment only
    latent_fields_remove(out);
    if (schema_add(out, "image", DTYPE_U8, shape, 3) < 0 || schema_set(out, "kind", "images") < 0 ||
        (shape[0] == shape[1] && schema_set(out, "image_size", "%zu", shape[0]) < 0) ||
        schema_add_provenance(out, tool_provenance()) < 0) {
        schema_free(out);
        return NULL;
    }
    d->image = schema_find(out, "image");
    d->height = shape[0];
    d->width = shape[1];
    return out;
}

int main(int argc, char **argv)
{
    const char *vae = NULL;
    bool sample = false;
    int64_t n = 16;
    const struct option options[] = {
        OPTION_STRING("vae", 0, &vae, "FILE",
                      "autoencoder (default: the one that the stream names)"),
        OPTION_FLAG("sample", 0, &sample,
                    "decode a random draw of each latent instead of its mean"),
        OPTION_INT("batch", 'b', &n, 1, 4096, "latents decoded at a time (default 16)"),
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
                   &(struct tool_info){"vae-decode", "[OPTION]... [FILE]",
                                       "Decode a stream of latents into images.", options});
    const char *input = tool_one_input(operands);

    struct output *output = output_open(tool.output);
    struct tstream_reader *in = output ? tstream_open(input, tool.threads) : NULL;
    struct decoder d = {.sample = sample};
    if (!in)
        tool_fail();
    const struct schema *in_schema = tstream_schema(in);
    if (latent_fields_find(in_schema, &d.from) < 0) {
        error_prefix("%s", tstream_name(in));
        tool_fail();
    }
    d.mean_dtype = in_schema->fields[d.from.mean].dtype;
    if (d.from.std >= 0)
        d.std_dtype = in_schema->fields[d.from.std].dtype;
    struct device *device = tool_open_device();
    d.ae = device ? autoencoder_open_for(device, vae, in_schema->metadata, d.from.channels,
                                         KL_DECODER, tstream_name(in))
                  : NULL;
    struct schema *schema = d.ae ? decoded_schema_new(&d, in_schema) : NULL;
    if (!schema || !(d.mean = mem_new(n, d.from.count * sizeof(float))) ||
        !(d.std = mem_new(n, d.from.count * sizeof(float))))
        tool_fail();
    uint64_t count = 0; // 0: unknown
    schema_count(in_schema, &count);
    progress_start("images", count);
    struct tstream_writer *out = tstream_create(output, schema, tool.threads, tool_level(output));
    if (!out || transform_stream(in, out, schema, n, decode_latents, &d) < 0)
        tool_fail();
    tstream_close(in);
    schema_free(schema);
    free(d.mean);
    free(d.std);
    autoencoder_close(d.ae);
    device_close(device);
    return tool_finish();
}
