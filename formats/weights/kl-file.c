// Finds an autoencoder in a file, whatever names its tensors have. SPDX-License-Identifier: MIT
#include "formats/weights/kl-file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/weights/diffusers.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"

// The styles have different names for this tensor, which don't depend on the number of levels.
#define MARKER "encoder.mid_block.attentions.0.to_q.weight"

static const enum naming_style styles[] = {NAMING_OWN, NAMING_KL_OLD, NAMING_KL_LDM};
// The files of the original code hold these beside the autoencoder.
static const char *const ignored[] = {"loss.", "model_ema.", "model.", "cond_stage_model.", NULL};

static const struct weight *find_param(const struct kl_file *file, const char *prefix,
                                       const char *param)
{
    char name[96], full[160];
    naming_translate(file->style, param, 0, name);
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return weights_find(&file->weights, full);
}

// Finds the beginning of the names of the autoencoder's tensors, and their style. Any will do.
static int detect_kl_style(struct kl_file *file, char *prefix, size_t size)
{
    char names[3][96], shown[ERROR_SHOWN_SIZE];
    for (size_t s = 0; s < sizeof styles / sizeof *styles; s++) {
        naming_translate(styles[s], MARKER, 0, names[s]);
        int n = weights_find_prefixes(&file->weights, names[s], size, 1, prefix);
        if (n < 0)
            return -1;
        file->style = styles[s];
        if (n > 0)
            return 0;
    }
    const char *first = file->weights.all[0].name;
    return error_set(
        STATUS_DATA,
        "%s: not an autoencoder: no name of its tensors ends in %s, %s or %s; the first is %s",
        file->path, names[0], names[1], names[2], error_shown(first, strlen(first), shown));
}

// The output channels of a convolution; 0 if the file does not have it.
static size_t conv_outputs(const struct kl_file *file, const char *prefix, const char *param)
{
    const struct weight *tensor = find_param(file, prefix, param);
    return tensor && tensor->rank == 4 ? tensor->shape[0] : 0;
}

static size_t resnet_outputs(const struct kl_file *file, const char *prefix, size_t level,
                             size_t resnet)
{
    char param[96];
    snprintf(param, sizeof param, "encoder.down_blocks.%zu.resnets.%zu.conv1.weight", level,
             resnet);
    return conv_outputs(file, prefix, param);
}

// Reads the sizes from the encoder, whose levels have the same order in every style.
static void read_kl_config(struct kl_file *file, const char *prefix)
{
    struct kl_config *c = &file->config;
    while (c->levels < KL_LEVELS_MAX &&
           (c->channels[c->levels] = resnet_outputs(file, prefix, c->levels, 0)) > 0)
        c->levels++;
    while (c->resnets < KL_RESNETS_MAX && resnet_outputs(file, prefix, 0, c->resnets) > 0)
        c->resnets++;
    c->latent_channels = conv_outputs(file, prefix, "encoder.conv_out.weight") / 2;
}

// place: what the message says before the path of the file, or "".
static int parse_scale(struct kl_file *file, const char *place, const char *text)
{
    double *scale = &file->config.scale;
    char *end, shown[ERROR_SHOWN_SIZE];
    errno = 0;
    *scale = strtod(text, &end);
    if (errno || end == text || *end || !(*scale > 0) || !isfinite(*scale))
        return error_set(STATUS_DATA, "%s%s: scaling_factor is %s, expected a number above 0",
                         place, file->path, error_shown(text, strlen(text), shown));
    return 0;
}

static int read_scale(struct kl_file *file)
{
    const char *text = weights_get(&file->weights, "scaling_factor");
    file->config.scale = KL_SCALE;
    if (text)
        return parse_scale(file, "", text);
    json_t *config;
    if (diffusers_config(file->path, &config) < 0)
        return -1;
    json_t *value = json_object_get(config, "scaling_factor");
    char *number = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    int rc = number ? parse_scale(file, "config.json beside ", number) : 0;
    free(number);
    json_decref(config);
    return rc;
}

static int bind_kl(struct kl_file *file)
{
    static const char *const none[] = {NULL};
    char prefix[64];
    if (detect_kl_style(file, prefix, sizeof prefix) < 0)
        return -1;
    read_kl_config(file, prefix);
    if (read_scale(file) < 0)
        return -1;
    if (kl_layout_init(&file->layout, &file->config, KL_BOTH) < 0)
        return error_prefix("%s", file->path);
    if (naming_make(&file->naming, &file->layout, file->style, file->config.levels) < 0)
        return -1;
    return binding_make(&file->binding, &file->naming, &file->weights, prefix,
                        file->style == NAMING_KL_LDM ? ignored : none);
}

int kl_file_open(struct kl_file *file, const char *path)
{
    *file = (struct kl_file){.path = diffusers_find(path, "vae")};
    if (!file->path)
        return -1;
    if (weights_open(&file->weights, file->path) < 0) {
        free(file->path);
        return -1;
    }
    if (bind_kl(file) < 0) {
        kl_file_close(file);
        return -1;
    }
    return 0;
}

void kl_file_close(struct kl_file *file)
{
    binding_free(&file->binding);
    naming_free(&file->naming);
    layout_free(&file->layout);
    weights_close(&file->weights);
    free(file->path);
}

static int load_params(const struct kl_file *file, struct autoencoder *ae)
{
    const struct layout *layout = kl_get_layout(ae);
    float *values = mem_new(layout_largest(layout), sizeof *values);
    int rc = values ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < layout->n_params; i++) {
        const struct param *from = layout_find(&file->layout, layout->params[i].name);
        rc = binding_read(&file->binding, (size_t)(from - file->layout.params), values);
        if (rc == 0)
            rc = kl_set_param(ae, &layout->params[i], values);
    }
    free(values);
    return rc;
}

struct autoencoder *kl_file_load(struct device *device, const char *path, enum kl_half half)
{
    struct kl_file file;
    if (kl_file_open(&file, path) < 0)
        return NULL;
    char *name = path_last_part(access(path, F_OK) == 0 ? path : file.path);
    struct autoencoder *ae = name ? autoencoder_new_kl(device, &file.config, half, name) : NULL;
    if (ae && load_params(&file, ae) < 0) {
        autoencoder_close(ae);
        ae = NULL;
    }
    free(name);
    kl_file_close(&file);
    return ae;
}
