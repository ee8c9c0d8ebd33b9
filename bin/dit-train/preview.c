// Draws sample images and evaluates held-out latents, by a model that holds a copy of the averaged
// weights. SPDX-License-Identifier: MIT
#include "bin/dit-train/preview.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bin/dit-train/description.h"
#include "formats/images/class-names.h"
#include "formats/images/image-sheet.h"
#include "formats/weights/autoencoder-open.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/arena.h"
#include "lib/model/device-check.h"
#include "lib/model/diffusion.h"
#include "lib/model/loss-batch.h"
#include "lib/model/sampler.h"

#define STEPS        "50"
#define VALID_MEMORY ((uint64_t)64 << 20) // for reading the held-out latents

struct preview {
    struct device *device;
    const struct dit_config *config; // the model's
    struct sampler *sampler;
    size_t n; // elements of a latent

    struct autoencoder *autoencoder; // NULL if no images are drawn
    float *latents;                  // (PREVIEW_BATCH,C,S,S)
    size_t samples;
    json_t *names; // of the classes, if the data has them and there is an image of each; else NULL

    const char *valid; // the file of held-out latents, which are kept in host memory
    size_t records;
    float *mean, *std;       // (records,C,S,S); std NULL without spread
    int32_t *labels;         // (records)
    void *memory;            // on the device; holds `batch`
    size_t memory_size;      // bytes
    struct loss_batch batch; // as many of the records as the model takes
};

// Reads at most `most` records. An error if they are described otherwise than the data, or one has
// a class that the model lacks.
static int read_held_out(struct preview *p, struct latents *latents, const struct latents *data,
                         size_t most)
{
    const struct latents_shape *shape = latents_shape(latents);
    const struct dit_config *c = p->config;
    struct description held_out, trained_on;
    if (description_of_latents(&held_out, p->valid, latents, c) < 0 ||
        description_of_latents(&trained_on, "the latents that are trained on", data, c) < 0 ||
        description_compare(&held_out, &trained_on) < 0)
        return -1;
    size_t n = shape->records && shape->records < most ? (size_t)shape->records : most, size;
    int64_t *labels = mem_new(n, sizeof *labels);
    p->labels = mem_new(n, sizeof *p->labels);
    if (!size_mul(n, p->n, &size) || !labels || !p->labels ||
        !(p->mean = mem_new(size, sizeof *p->mean)) ||
        (shape->spread && !(p->std = mem_new(size, sizeof *p->std)))) {
        free(labels);
        return error_set(STATUS_INTERNAL, "%s: no memory for %zu latents", p->valid, n);
    }
    long got = latents_read(latents, n, p->mean, p->std, labels);
    int rc = got < 0 ? -1 : 0;
    if (got == 0)
        rc = error_set(STATUS_DATA, "%s: expected latents, found none", p->valid);
    for (long i = 0; rc == 0 && i < got; i++) {
        if (dit_check_label(c, labels[i]) < 0)
            rc = error_prefix("%s", p->valid);
        p->labels[i] = (int32_t)(labels[i] < 0 ? (int64_t)c->classes : labels[i]);
    }
    free(labels);
    p->records = rc == 0 ? (size_t)got : 0;
    return rc;
}

static void place_batch(struct preview *p, uintptr_t base)
{
    struct arena arena = {base, p->device->backend->act_size};
    loss_batch_place(&p->batch, &arena, p->device, p->config, sampler_rows(p->sampler));
    p->memory_size = arena.next - base;
}

static int open_held_out(struct preview *p, const struct latents *data,
                         const struct preview_settings *settings)
{
    // A file, as a pipe could not be read again on resuming, and might wait for ever.
    struct stat st;
    if (stat(settings->valid, &st) == 0 && !S_ISREG(st.st_mode))
        return error_set(STATUS_NO_INPUT, "--valid: %s: expected a regular file", settings->valid);
    // One shard of a set will do: shards are shuffled, so that it is spread over all the data.
    char *path = mem_strdup(settings->valid);
    struct latents_options options = {
        .memory = VALID_MEMORY, .one_pass = true, .partial = true, .threads = settings->threads};
    struct latents *latents = path ? latents_open((char *[]){path, NULL}, &options) : NULL;
    int rc = latents ? read_held_out(p, latents, data, settings->valid_records) : -1;
    free(path);
    latents_close(latents);
    if (rc < 0)
        return error_prefix("--valid");
    place_batch(p, 0);
    if (!(p->memory = device_alloc(p->device, p->memory_size)))
        return device_lacks(p->device, preview_memory(p), NULL, "--valid");
    place_batch(p, (uintptr_t)p->memory);
    return loss_batch_prepare(&p->batch, p->config, &settings->loss);
}

static int open_autoencoder(struct preview *p, const struct schema *data,
                            const struct preview_settings *settings)
{
    p->autoencoder = autoencoder_open_for(p->device, settings->vae, data->metadata,
                                          p->config->channels, KL_DECODER, "the latents");
    if (!p->autoencoder)
        return error_prefix(settings->samples ? "--sample-every" : "--eval-every");
    p->latents = mem_new(PREVIEW_BATCH, p->n * sizeof *p->latents);
    return p->latents ? 0 : -1;
}

// Names are of use where each class has a row of its own.
static int keep_class_names(struct preview *p, const struct latents *data)
{
    const size_t K = p->config->classes;
    if (class_names_parse(schema_get(latents_schema(data), "classes"), &p->names) < 0)
        return error_prefix("the latents");
    if (K && K <= p->samples && json_array_size(p->names) == K)
        return 0;
    json_decref(p->names);
    p->names = NULL;
    return 0;
}

struct preview *preview_new(struct device *device, const struct dit_config *config,
                            const struct latents *data, const struct preview_settings *settings)
{
    struct preview *p = mem_new(1, sizeof *p);
    if (!p)
        return NULL;
    p->device = device;
    p->samples = settings->samples;
    p->valid = settings->valid;
    struct sampler_settings sampling = {
        .objective = settings->loss.objective,
        .steps = STEPS,
        .cfg_scale = -1,
        .seed = settings->seed,
    };
    if (!(p->sampler = sampler_new(device, config, PREVIEW_BATCH, NULL, &sampling)))
        goto failed;
    p->config = dit_get_config(sampler_model(p->sampler));
    p->n = config->channels * config->input_size * config->input_size;
    if ((!settings->draw || open_autoencoder(p, latents_schema(data), settings) == 0) &&
        (p->samples == 0 || keep_class_names(p, data) == 0) &&
        (!p->valid || open_held_out(p, data, settings) == 0))
        return p;
failed:
    preview_free(p);
    return NULL;
}

void preview_free(struct preview *p)
{
    if (!p)
        return;
    if (p->memory)
        device_release(p->device, p->memory);
    sampler_free(p->sampler);
    autoencoder_close(p->autoencoder);
    json_decref(p->names);
    free(p->latents);
    free(p->mean);
    free(p->std);
    free(p->labels);
    free(p);
}

size_t preview_memory(const struct preview *p)
{
    return p ? sampler_memory(p->sampler) + p->memory_size : 0;
}

int preview_load(struct preview *p, struct trainer *trainer, struct ranks *ranks)
{
    const bool sharded = trainer_get_settings(trainer)->shard_optimizer;
    const struct layout *from = dit_get_layout(trainer_model(trainer));
    const struct layout *to = p ? dit_get_layout(sampler_model(p->sampler)) : NULL; // the same
    float *values = mem_new(layout_largest(from), sizeof *values);
    int rc = values ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < from->n_params; i++) {
        rc = trainer_get(trainer, TRAINER_EMA, &from->params[i], values);
        if (rc == 0 && sharded && ranks)
            ranks_broadcast(ranks, values, from->params[i].count * sizeof *values);
        if (rc == 0 && p)
            rc = dit_set_param(sampler_model(p->sampler), &to->params[i], values);
    }
    free(values);
    return rc;
}

// The class of image i: all in turn, or evenly spread if there are more classes than images; the
// null class if there are none.
static int32_t class_of_image(const struct preview *p, size_t i)
{
    size_t K = p->config->classes;
    return (int32_t)(K == 0 ? 0 : K > p->samples ? i * K / p->samples : i % K);
}

size_t preview_side(const struct preview *p)
{
    return p->config->input_size * p->autoencoder->downsample;
}

size_t preview_classes(const struct preview *p)
{
    return p->config->classes;
}

int preview_set_drawing(struct preview *p, const char *steps, double cfg_scale)
{
    return sampler_change(p->sampler, steps, cfg_scale);
}

int preview_draw(struct preview *p, uint64_t first, const int32_t *labels, size_t B,
                 uint8_t *images)
{
    const size_t side = preview_side(p);
    return sampler_run(p->sampler, first, labels, B, p->latents, NULL, NULL) < 0
               ? -1
               : p->autoencoder->decode(p->autoencoder, p->latents, B, side, side, images);
}

// Draws images first .. first + B - 1 onto the sheet. images (B,side,side,3) is scratch memory.
static int add_to_sheet(struct preview *p, struct image_sheet *sheet, size_t first, size_t B,
                        uint8_t *images)
{
    int32_t labels[PREVIEW_BATCH];
    for (size_t b = 0; b < B; b++)
        labels[b] = class_of_image(p, first + b);
    if (preview_draw(p, first, labels, B, images) < 0)
        return -1;
    for (size_t b = 0; b < B; b++)
        if (image_sheet_add(sheet, p->names ? labels[b] : (int64_t)((first + b) / sheet->columns),
                            images + b * sheet->height * sheet->width * 3) < 0)
            return -1;
    return 0;
}

int preview_write_samples(struct preview *p, struct output *output)
{
    size_t side = preview_side(p), columns = 1;
    const size_t classes = json_array_size(p->names);
    while ((classes ? classes : columns) * columns < p->samples)
        columns++;
    struct image_sheet sheet = {.height = side,
                                .width = side,
                                .columns = columns,
                                .rows_max = classes ? classes : columns,
                                .scale = 1,
                                .gap = 2,
                                .named = classes,
                                .names = p->names};
    uint8_t *images = mem_new(PREVIEW_BATCH * side, side * 3);
    int rc = images ? preview_set_drawing(p, STEPS, -1) : -1;
    for (size_t at = 0; rc == 0 && at < p->samples; at += PREVIEW_BATCH) {
        size_t left = p->samples - at;
        rc = add_to_sheet(p, &sheet, at, left < PREVIEW_BATCH ? left : PREVIEW_BATCH, images);
    }
    if (rc == 0)
        rc = image_sheet_write(&sheet, output);
    if (rc == 0)
        rc = output_commit(output);
    else
        output_discard(output);
    image_sheet_free(&sheet);
    free(images);
    return rc;
}

int preview_validate(struct preview *p, double *loss)
{
    return trainer_evaluate(&p->batch, sampler_model(p->sampler), p->mean, p->std, p->labels,
                            p->records, loss);
}
