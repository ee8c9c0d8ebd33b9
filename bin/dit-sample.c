// dit-sample: weights -> images, or latents. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "formats/images/class-choice.h"
#include "formats/tstream/tstream.h"
#include "formats/weights/autoencoder-open.h"
#include "formats/weights/dit-file.h"
#include "lib/base/mem.h"
#include "lib/model/sampler.h"
#include "lib/tool/tool-device.h"
#include "lib/tool/tool.h"

static const char *weights = "run/latest.safetensors", *classes = "balanced", *steps = "250", *vae;
static int64_t count = 16, batch = 8, heads, image_size;
static int which = DIT_WEIGHTS_EMA, method, guided;
static double eta, cfg_scale = 4;
static bool want_latents;
static struct part part = {0, 1};
static const struct option options[] = {
    {"weights", 'w', OPTION_STRING, &weights, "FILE", "the model (default run/latest.safetensors)",
     0, 0, NULL},
    {"which", 0, OPTION_CHOICE, &which, "ema|model",
     "the averaged weights (default) or the last ones", 0, 0,
     (const char *const[]){"ema", "model", NULL}},
    {"heads", 0, OPTION_INT, &heads, "N", "heads of its attention, where it does not say", 1, 1024,
     NULL},
    {"image-size", 0, OPTION_INT, &image_size, "N", "side of the images, where it does not say", 8,
     32768, NULL},
    {"count", 'n', OPTION_INT, &count, "N", "samples (default 16)", 1, 1e12, NULL},
    {"classes", 'c', OPTION_STRING, &classes, "LIST",
     "names or numbers with commas, random, or balanced (default)", 0, 0, NULL},
    {"part", 0, OPTION_PART, &part, "I/N", "draw only the I-th of N equal parts", 0, 0, NULL},
    {"cfg-scale", 's', OPTION_FLOAT, &cfg_scale, "X",
     "classifier-free guidance; 1 is none (default 4)", 0, 1000, NULL},
    {"cfg-channels", 0, OPTION_CHOICE, &guided, "3|all",
     "channels that are guided (default: the first 3, as published)", 0, 0,
     (const char *const[]){"3", "all", NULL}},
    {"steps", 0, OPTION_STRING, &steps, "SPEC", "N, ddimN or A,B,C of the 1000 steps (default 250)",
     0, 0, NULL},
    {"sampler", 0, OPTION_CHOICE, &method, "ddpm|ddim", "the method (default ddpm)", 0, 0,
     (const char *const[]){"ddpm", "ddim", NULL}},
    {"eta", 0, OPTION_FLOAT, &eta, "X", "noise of DDIM, 0 to 1 (default 0)", 0, 1, NULL},
    {"batch", 'b', OPTION_INT, &batch, "N", "samples drawn at once (default 8)", 1, 65536, NULL},
    {"latents", 0, OPTION_FLAG, &want_latents, NULL, "write latents, not images", 0, 0, NULL},
    {"vae", 0, OPTION_STRING, &vae, "FILE",
     "autoencoder (default: the one that made the model's latents)", 0, 0, NULL},
    TOOL_OPTION_SEED,
    TOOL_OPTION_OUTPUT,
    TOOL_OPTION_LEVEL,
    TOOL_OPTION_PG,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_DEVICE,
    TOOL_OPTIONS_COMMON,
    OPTION_END};
static const struct tool_info info = {"dit-sample", "[OPTION]... > IMAGES",
                                      "Draw images from a trained Diffusion Transformer.", options};

// Ends the program if what was called has set an error.
static void check(int rc)
{
    if (rc < 0)
        tool_fail();
}

// The stream's header: what the checkpoint says of its data stays true of the samples.
static struct schema *make_schema(const struct dit_file *file, const struct autoencoder *ae,
                                  uint64_t n)
{
    static const char *const kept[] = {"classes", "image_size", "autoencoder", "latent_scale"};
    size_t n_kept = ae ? 2 : sizeof kept / sizeof *kept; // the others are about latents
    const struct dit_config *c = &file->config;
    struct schema *schema = schema_new(ae ? "images" : "latents");
    if (!schema)
        tool_fail();
    for (size_t i = 0; i < n_kept; i++) {
        const char *value = weights_get(&file->weights, kept[i]);
        if (value)
            check(schema_set(schema, kept[i], "%s", value));
    }
    if (ae) {
        size_t side = c->input_size * ae->downsample, shape[] = {side, side, 3};
        check(schema_add(schema, "image", DTYPE_U8, shape, 3));
        check(schema_set(schema, "image_size", "%zu", side));
    } else {
        size_t shape[] = {c->channels, c->input_size, c->input_size};
        check(schema_add(schema, "latent", DTYPE_F32, shape, 3));
    }
    check(schema_add(schema, "label", DTYPE_I64, NULL, 0));
    check(schema_set(schema, "count", "%llu", (unsigned long long)n));
    check(schema_add_provenance(schema, tool_provenance()));
    return schema;
}

struct shown {
    size_t step, steps;
};

static void show_step(void *user)
{
    struct shown *shown = user;
    progress_text("step %zu of %zu", ++shown->step, shown->steps);
}

// Draws samples first .. first + rows - 1 and writes them. latents (batch,C,S,S) is scratch.
static void write_samples(struct sampler *sampler, struct autoencoder *ae,
                          const struct class_choice *choice, struct tstream_writer *out,
                          const struct schema *schema, uint64_t first, size_t rows, float *latents,
                          int32_t *labels)
{
    const struct dit_config *c = dit_get_config(sampler_model(sampler));
    struct shown shown = {0, sampler_steps(sampler)};
    for (size_t b = 0; b < rows; b++)
        labels[b] = class_choice_get(choice, tool.seed, first + b);
    check(sampler_run(sampler, first, labels, rows, latents, show_step, &shown));

    struct batch *frame = batch_new(schema, rows);
    if (!frame)
        tool_fail();
    int64_t *label = (int64_t *)frame->data[schema_find(schema, "label")];
    for (size_t b = 0; b < rows; b++)
        label[b] = (size_t)labels[b] == c->classes ? -1 : labels[b];
    if (ae) {
        size_t side = c->input_size * ae->downsample;
        check(ae->decode(ae, latents, rows, side, side, frame->data[schema_find(schema, "image")]));
    } else {
        int field = schema_find(schema, "latent");
        memcpy(frame->data[field], latents, rows * schema->fields[field].size);
    }
    check(tstream_write(out, frame));
    progress_add(rows);
}

int main(int argc, char **argv)
{
    char **operands = tool_start(argc, argv, &info);
    if (operands[0])
        tool_usage_error("%s: no operand is expected; --weights names the model", operands[0]);
    struct output *output = output_open(tool.output);
    if (!output)
        tool_fail();
    struct dit_file file;
    check(dit_file_open(
        &file, weights,
        &(struct dit_hints){.heads = (size_t)heads, .image_size = (size_t)image_size}));
    struct class_choice choice;
    check(class_choice_parse(&choice, classes, weights_get(&file.weights, "classes"),
                             file.config.classes));
    uint64_t first = (uint64_t)count * part.index / part.count;
    uint64_t end = (uint64_t)count * (part.index + 1) / part.count;
    if (end > first && (uint64_t)batch > end - first)
        batch = (int64_t)(end - first);

    struct device *device = tool_open_device();
    if (!device)
        tool_fail();
    struct autoencoder *ae = NULL;
    if (!want_latents &&
        !(ae = autoencoder_open_for(device, vae, weights_get(&file.weights, "autoencoder"),
                                    file.config.channels, KL_DECODER, weights))) {
        error_set(error_status(), "%s (--latents needs no autoencoder)", error_message());
        tool_fail();
    }
    struct sampler_settings settings = {
        .respacing = steps,
        .ddim = method == 1,
        .eta = eta,
        .cfg_scale = cfg_scale,
        .cfg_channels = guided || file.config.channels < 3 ? file.config.channels : 3,
        .seed = tool.seed,
    };
    // On a CPU the weights stay in the mapped file, which other processes share.
    const float **held =
        device->backend->host_floats ? dit_file_in_place(&file, (enum dit_weights)which) : NULL;
    struct sampler *sampler = sampler_new(device, &file.config, (size_t)batch, held, &settings);
    if (!sampler)
        tool_fail();
    check(dit_file_load(&file, which, sampler_model(sampler)));
    struct schema *schema = make_schema(&file, ae, end - first);
    struct tstream_writer *out =
        tstream_create(output, schema, (size_t)tool.threads, tool_level(output));
    if (!out)
        tool_fail();
    const struct dit_config *c = dit_get_config(sampler_model(sampler));
    size_t n = c->channels * c->input_size * c->input_size;
    float *latents = mem_new((size_t)batch * n, sizeof *latents);
    int32_t *labels = mem_new((size_t)batch, sizeof *labels);
    if (!latents || !labels)
        tool_fail();
    progress_start(ae ? "images" : "latents", end - first);
    for (uint64_t at = first; at < end; at += (uint64_t)batch) {
        size_t rows = end - at < (uint64_t)batch ? (size_t)(end - at) : (size_t)batch;
        write_samples(sampler, ae, &choice, out, schema, at, rows, latents, labels);
    }
    progress_finish();
    check(tstream_finish(out));

    free(latents);
    free(labels);
    schema_free(schema);
    sampler_free(sampler);
    free(held);
    dit_file_close(&file);
    autoencoder_close(ae);
    device_close(device);
    class_choice_free(&choice);
    return tool_finish();
}
