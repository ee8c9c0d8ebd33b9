// dit-sample: weights -> a stream of images or latents. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "bin/dit-sample/sample-options.h"
#include "formats/images/class-choice.h"
#include "formats/images/imagenet.h"
#include "formats/tstream/tstream.h"
#include "formats/weights/autoencoder-open.h"
#include "formats/weights/dit-file.h"
#include "lib/base/mem.h"
#include "lib/model/sampler.h"
#include "lib/tool/tool-device.h"
#include "lib/tool/tool.h"

// The stream's schema; for latents, `ae` is NULL. What the checkpoint says of its data is true of
// the samples, too.
static struct schema *samples_schema_new(const struct dit_file *file, const char *classes,
                                         const struct autoencoder *ae, uint64_t n)
{
    static const char *const kept[] = {"image_size", "autoencoder", "latent_scale"};
    size_t n_kept = ae ? 1 : sizeof kept / sizeof *kept; // the last two describe latents
    const struct dit_config *c = &file->config;
    struct schema *schema = schema_new(ae ? "images" : "latents");
    if (!schema)
        tool_fail();
    if (classes)
        tool_check(schema_set(schema, "classes", "%s", classes));
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

// The names of the classes, malloc'd: the file's, or those of ImageNet if it names none of so many;
// or NULL.
static char *class_list_new(const struct dit_file *file)
{
    const char *own = weights_get(&file->weights, "classes");
    if (!own && file->config.classes != IMAGENET_CLASSES)
        return NULL;
    char *list = own ? mem_strdup(own) : imagenet_classes_json();
    if (!list)
        tool_fail();
    return list;
}

// Opens the files of the model and, if it is asked for, of the one to guide away from.
static void open_weights(const struct sample_options *o, struct dit_file *file,
                         struct dit_file *guide)
{
    struct dit_hints hints = sample_options_hints(o);
    tool_check(dit_file_open(file, o->weights, &hints));
    *guide = (struct dit_file){0};
    if (!o->guide_weights)
        return;
    hints.heads = 0;
    tool_check(dit_file_open(guide, o->guide_weights, &hints));
    struct objective both = file->objective;
    tool_check(objective_join(&both, file->path, &guide->objective, guide->path));
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
    const struct sample_options *o = sample_options_parse(argc, argv);
    struct output *output = output_open(tool.output);
    if (!output)
        tool_fail();
    struct dit_file file, guide;
    open_weights(o, &file, &guide);
    if (!file.classes_said)
        tool_note("%s: its class table has %zu rows; the last one is taken for the null class",
                  o->weights, file.config.classes + 1);
    enum dit_weights which;
    tool_check(dit_file_parse_which(&file, o->which, &which));
    double start = which == DIT_WEIGHTS_EMA ? dit_file_ema_start(&file) : 0;
    if (start > DIT_FILE_START_MAX)
        tool_warn("%s: %.0f%% of the averaged weights are still those that training began with; "
                  "--which model takes those of the last step",
                  file.path, 100 * start);
    char *classes = class_list_new(&file);
    struct class_choice choice;
    tool_check(class_choice_parse(&choice, o->classes, classes, file.config.classes,
                                  !file.config.no_null_class));
    uint64_t first = (uint64_t)o->count * o->part.index / o->part.count;
    uint64_t end = (uint64_t)o->count * (o->part.index + 1) / o->part.count;
    size_t batch = (size_t)o->batch;
    if (end > first && batch > end - first)
        batch = (size_t)(end - first);

    struct device *device = tool_open_device();
    if (!device)
        tool_fail();
    struct autoencoder *ae = NULL;
    if (!o->want_latents &&
        !(ae = autoencoder_open_for(device, o->vae, file.weights.metadata, file.config.channels,
                                    KL_DECODER, o->weights))) {
        error_set(error_status(), "%s (--latents needs no autoencoder)", error_message());
        tool_fail();
    }
    struct sampler_settings settings =
        sample_options_settings(o, &file, guide.path ? &guide : NULL);
    // In float32 a CPU uses the weights in the mapped file, whose memory other processes share.
    const float **in_place =
        device_uses_host_floats(device) ? dit_file_in_place(&file, which) : NULL;
    struct sampler *sampler = sampler_new(device, &file.config, batch, in_place, &settings);
    if (!sampler)
        tool_fail();
    tool_check(dit_file_load(&file, which, sampler_model(sampler)));
    if (sampler_guide(sampler))
        tool_check(dit_file_load(&guide, DIT_WEIGHTS_EMA, sampler_guide(sampler)));
    struct schema *schema = samples_schema_new(&file, classes, ae, end - first);
    struct tstream_writer *out =
        tstream_create(output, schema, (size_t)tool.threads, tool_level(output));
    if (!out)
        tool_fail();
    const struct dit_config *c = dit_get_config(sampler_model(sampler));
    size_t n = c->channels * c->input_size * c->input_size;
    float *latents = mem_new(batch * n, sizeof *latents);
    int32_t *labels = mem_new(batch, sizeof *labels);
    if (!latents || !labels)
        tool_fail();
    struct sampling_progress shown = {.all = end - first, .unit = ae ? "images" : "latents"};
    progress_start("steps", (end - first) * sampler_evaluations(sampler));
    for (uint64_t at = first; at < end; at += batch) {
        size_t rows = end - at < batch ? (size_t)(end - at) : batch;
        draw_samples(sampler, ae, &choice, out, schema, at, rows, latents, labels, &shown);
    }
    progress_text("%llu %s", (unsigned long long)shown.done, shown.unit);
    progress_finish();
    tool_check(tstream_finish(out));

    free(classes);
    free(latents);
    free(labels);
    schema_free(schema);
    sampler_free(sampler);
    free(in_place);
    dit_file_close(&file);
    if (guide.path)
        dit_file_close(&guide);
    autoencoder_close(ae);
    device_close(device);
    class_choice_free(&choice);
    return tool_finish();
}
