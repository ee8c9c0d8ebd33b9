// dit-sample: weights -> a stream of images or latents. SPDX-License-Identifier: MIT
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
static int which = DIT_WEIGHTS_EMA;
static int method;
enum { METHOD_DDPM, METHOD_DDIM }; // of --sampler
static int guided = -1;            // not given
enum { GUIDED_3, GUIDED_ALL };     // of --cfg-channels
static double eta, cfg_scale = -1; // the latter is not given
static bool want_latents;
static struct part part = {0, 1};
static const struct option options[] = {
    OPTION_STRING("weights", 'w', &weights, "FILE",
                  "weights of the model, or a run's folder (default run/latest.safetensors)"),
    OPTION_CHOICE("which", 0, &which,
                  "the averaged (EMA) weights or those of the last step (default ema)", "ema",
                  "model"),
    OPTION_INT("heads", 0, &heads, 1, 1024,
               "attention heads of the model, where the file does not give them"),
    OPTION_INT("image-size", 0, &image_size, 8, 32768,
               "side of the images in pixels, where the file does not give it"),
    OPTION_INT("count", 'n', &count, 1, 1e12, "number of samples (default 16)"),
    OPTION_STRING("classes", 'c', &classes, "LIST",
                  "comma-separated names or numbers of classes, or random, or balanced (default)"),
    OPTION_PART("part", 0, &part, "draw only the I-th of N equal parts of the samples"),
    OPTION_FLOAT(
        "cfg-scale", 's', &cfg_scale, 0, 1000,
        "scale of classifier-free guidance; 1 turns it off (default 4; 1 without a null class)"),
    OPTION_CHOICE(
        "cfg-channels", 0, &guided,
        "guided channels (default: the first 3 of 4, as published, or all of any other number)",
        "3", "all"),
    OPTION_STRING("steps", 0, &steps, "SPEC",
                  "sampling steps out of 1000: N, ddimN or A,B,C (default 250)"),
    OPTION_CHOICE("sampler", 0, &method, "sampling method (default ddpm)", "ddpm", "ddim"),
    OPTION_FLOAT("eta", 0, &eta, 0, 1, "noise of the ddim sampler, 0 to 1 (default 0)"),
    OPTION_INT("batch", 'b', &batch, 1, 65536, "samples drawn at a time (default 8)"),
    OPTION_FLAG("latents", 0, &want_latents, "write latents instead of images"),
    OPTION_STRING("vae", 0, &vae, "FILE",
                  "autoencoder (default: the one that made the model's latents)"),
    TOOL_OPTION_SEED,
    TOOL_OPTION_OUTPUT,
    TOOL_OPTION_LEVEL,
    TOOL_OPTION_PG,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_DEVICE,
    TOOL_OPTION_DETERMINISTIC,
    TOOL_OPTIONS_COMMON,
    OPTION_END};
static const struct tool_info info = {"dit-sample", "[OPTION]... > IMAGES",
                                      "Draw images from a trained Diffusion Transformer.", options};

// The stream's schema; for latents, `ae` is NULL. What the checkpoint says of its data is true of
// the samples, too.
static struct schema *samples_schema_new(const struct dit_file *file, const struct autoencoder *ae,
                                         uint64_t n)
{
    static const char *const kept[] = {"classes", "image_size", "autoencoder", "latent_scale"};
    size_t n_kept = ae ? 2 : sizeof kept / sizeof *kept; // the last two describe latents
    const struct dit_config *c = &file->config;
    struct schema *schema = schema_new(ae ? "images" : "latents");
    if (!schema)
        tool_fail();
    for (size_t i = 0; i < n_kept; i++) {
        const char *value = weights_get(&file->weights, kept[i]);
        if (value)
            tool_check(schema_set(schema, kept[i], "%s", value));
    }
    if (ae) {
        size_t side = c->input_size * ae->downsample, shape[] = {side, side, 3};
        tool_check(schema_add(schema, "image", DTYPE_U8, shape, 3));
        tool_check(schema_set(schema, "image_size", "%zu", side));
    } else {
        size_t shape[] = {c->channels, c->input_size, c->input_size};
        tool_check(schema_add(schema, "latent", DTYPE_F32, shape, 3));
    }
    tool_check(schema_add(schema, "label", DTYPE_I64, NULL, 0));
    tool_check(schema_set(schema, "count", "%llu", (unsigned long long)n));
    tool_check(schema_add_provenance(schema, tool_provenance()));
    return schema;
}

static size_t choose_guided(size_t channels)
{
    if (guided < 0)
        return sampler_guided_channels(channels);
    return guided == GUIDED_ALL || channels < 3 ? channels : 3;
}

// The progress counts the steps of all samples: one sample may take minutes.
struct sampling_progress {
    uint64_t done, all; // samples
    size_t rows;        // that are being drawn
    const char *unit;   // "images"
};

static void show_step(void *user)
{
    const struct sampling_progress *shown = user;
    progress_text("%llu of %llu %s", (unsigned long long)shown->done,
                  (unsigned long long)shown->all, shown->unit);
    progress_add(shown->rows);
}

// Draws samples first .. first + rows - 1 and writes them. latents (batch,C,S,S) and labels (batch)
// are working memory.
static void draw_samples(struct sampler *sampler, struct autoencoder *ae,
                         const struct class_choice *choice, struct tstream_writer *out,
                         const struct schema *schema, uint64_t first, size_t rows, float *latents,
                         int32_t *labels, struct sampling_progress *shown)
{
    const struct dit_config *c = dit_get_config(sampler_model(sampler));
    shown->rows = rows;
    for (size_t b = 0; b < rows; b++)
        labels[b] = class_choice_get(choice, tool.seed, first + b);
    tool_check(sampler_run(sampler, first, labels, rows, latents, show_step, shown));

    struct batch *frame = batch_new(schema, rows);
    if (!frame)
        tool_fail();
    int64_t *label = (int64_t *)frame->data[schema_find(schema, "label")];
    for (size_t b = 0; b < rows; b++)
        label[b] = (size_t)labels[b] == c->classes ? -1 : labels[b];
    if (ae) {
        size_t side = c->input_size * ae->downsample;
        tool_check(
            ae->decode(ae, latents, rows, side, side, frame->data[schema_find(schema, "image")]));
    } else {
        int field = schema_find(schema, "latent");
        memcpy(frame->data[field], latents, rows * schema->fields[field].size);
    }
    tool_check(tstream_write(out, frame));
    shown->done += rows;
}

int main(int argc, char **argv)
{
    char **operands = tool_start(argc, argv, &info);
    if (operands[0])
        tool_usage_error("%s: unexpected operand; --weights names the model", operands[0]);
    struct output *output = output_open(tool.output);
    if (!output)
        tool_fail();
    struct dit_file file;
    tool_check(dit_file_open(
        &file, weights,
        &(struct dit_hints){.heads = (size_t)heads, .image_size = (size_t)image_size}));
    if (!file.classes_said)
        tool_note("%s: its class table has %zu rows; the last one is taken for the null class",
                  weights, file.config.classes + 1);
    double start = which == DIT_WEIGHTS_EMA ? dit_file_ema_start(&file) : 0;
    if (start > DIT_FILE_START_MAX)
        tool_warn("%s: %.0f%% of the averaged weights are still those that training began with; "
                  "--which model takes those of the last step",
                  file.path, 100 * start);
    struct class_choice choice;
    tool_check(class_choice_parse(&choice, classes, weights_get(&file.weights, "classes"),
                                  file.config.classes, !file.config.no_null_class));
    uint64_t first = (uint64_t)count * part.index / part.count;
    uint64_t end = (uint64_t)count * (part.index + 1) / part.count;
    if (end > first && (uint64_t)batch > end - first)
        batch = (int64_t)(end - first);

    struct device *device = tool_open_device();
    if (!device)
        tool_fail();
    struct autoencoder *ae = NULL;
    if (!want_latents && !(ae = autoencoder_open_for(device, vae, file.weights.metadata,
                                                     file.config.channels, KL_DECODER, weights))) {
        error_set(error_status(), "%s (--latents needs no autoencoder)", error_message());
        tool_fail();
    }
    struct sampler_settings settings = {
        .respacing = steps,
        .ddim = method == METHOD_DDIM,
        .eta = eta,
        .cfg_scale = cfg_scale,
        .cfg_channels = choose_guided(file.config.channels),
        .seed = tool.seed,
    };
    // On a CPU the weights are used in the mapped file, whose memory other processes share.
    const float **in_place =
        device->backend->host_floats ? dit_file_in_place(&file, (enum dit_weights)which) : NULL;
    struct sampler *sampler = sampler_new(device, &file.config, (size_t)batch, in_place, &settings);
    if (!sampler)
        tool_fail();
    tool_check(dit_file_load(&file, which, sampler_model(sampler)));
    struct schema *schema = samples_schema_new(&file, ae, end - first);
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
    struct sampling_progress shown = {.all = end - first, .unit = ae ? "images" : "latents"};
    progress_start("steps", (end - first) * sampler_steps(sampler));
    for (uint64_t at = first; at < end; at += (uint64_t)batch) {
        size_t rows = end - at < (uint64_t)batch ? (size_t)(end - at) : (size_t)batch;
        draw_samples(sampler, ae, &choice, out, schema, at, rows, latents, labels, &shown);
    }
    progress_text("%llu %s", (unsigned long long)shown.done, shown.unit);
    progress_finish();
    tool_check(tstream_finish(out));

    free(latents);
    free(labels);
    schema_free(schema);
    sampler_free(sampler);
    free(in_place);
    dit_file_close(&file);
    autoencoder_close(ae);
    device_close(device);
    class_choice_free(&choice);
    return tool_finish();
}
