// Latents to images. SPDX-License-Identifier: MIT
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
    struct latent_fields from; // of the input
    enum dtype mean_dtype, std_dtype;
    int image;            // index of the tensor in the output
    size_t height, width; // of an image
    bool sample;
    float *mean, *std; // of a batch
};

static int decode(void *user, struct batch *in, struct batch *out, size_t row)
{
    struct decoder *d = user;
    const struct latent_fields *from = &d->from;
    size_t values = in->rows * from->count;
    if (floats_read(d->mean, in->data[from->mean], d->mean_dtype, values))
        return -1;
    if (d->sample && from->std >= 0) {
        if (floats_read(d->std, in->data[from->std], d->std_dtype, values))
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

// The schema of the images; sets their place and size.
static struct schema *make_schema(struct decoder *d, const struct schema *in)
{
    size_t f = d->ae->downsample;
    size_t shape[3] = {d->from.height * f, d->from.width * f, 3};
    struct schema *out = schema_copy(in);
    if (!out)
        return NULL;
    schema_set(out, "count", NULL); // the first segment's; more may follow
    latent_fields_remove(out);
    if (schema_add(out, "image", DTYPE_U8, shape, 3) || schema_set(out, "kind", "images") ||
        (shape[0] == shape[1] && schema_set(out, "image_size", "%zu", shape[0])) ||
        schema_add_provenance(out, tool_provenance())) {
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
        {"vae", 0, OPTION_STRING, &vae, "FILE",
         "the autoencoder (default: the one that the stream names)", 0, 0, NULL},
        {"sample", 0, OPTION_FLAG, &sample, NULL, "decode a draw of each latent, not its mean", 0,
         0, NULL},
        {"batch", 'b', OPTION_INT, &n, "N", "latents decoded at a time (default 16)", 1, 4096,
         NULL},
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
                   &(struct tool_info){"vae-decode", "[OPTION]... [FILE]",
                                       "Decode a stream of latents into images.", options});
    if (tool_count(inputs) > 1)
        tool_usage_error("one input at most; tstream-cat joins several");

    struct output *output = output_open(tool.output);
    struct tstream_reader *in = output ? tstream_open(inputs[0], tool.threads) : NULL;
    struct decoder d = {.sample = sample};
    if (!in)
        tool_fail();
    const struct schema *in_schema = tstream_schema(in);
    if (latent_fields_find(in_schema, &d.from)) {
        error_prefix("%s", tstream_name(in));
        tool_fail();
    }
    d.mean_dtype = in_schema->fields[d.from.mean].dtype;
    if (d.from.std >= 0)
        d.std_dtype = in_schema->fields[d.from.std].dtype;
    struct device *device = tool_open_device();
    d.ae = device ? autoencoder_open_for(device, vae, schema_get(in_schema, "autoencoder"),
                                         d.from.channels, KL_DECODER, tstream_name(in))
                  : NULL;
    struct schema *schema = d.ae ? make_schema(&d, in_schema) : NULL;
    if (!schema || !(d.mean = mem_new(n, d.from.count * sizeof(float))) ||
        !(d.std = mem_new(n, d.from.count * sizeof(float))))
        tool_fail();
    uint64_t count = 0; // 0: not known
    schema_count(in_schema, &count);
    progress_start("images", count);
    struct tstream_writer *out = tstream_create(output, schema, tool.threads, tool_level(output));
    if (!out || transform_stream(in, out, schema, n, decode, &d) < 0)
        tool_fail();
    tstream_close(in);
    schema_free(schema);
    free(d.mean);
    free(d.std);
    autoencoder_close(d.ae);
    device_close(device);
    return tool_finish();
}
