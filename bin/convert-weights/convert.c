// SPDX-License-Identifier: MIT
#include "bin/convert-weights/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/diffusers.h"
#include "formats/weights/kl-file.h"
#include "lib/base/error.h"
#include "lib/tool/tool.h"

static const char *ending_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    return dot ? dot : "";
}

static int check_ending(const char *path)
{
    static const char *const endings[] = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (strcmp(ending_of(path), endings[i]) == 0)
            return 0;
    return error_set(STATUS_USAGE,
                     "%s: the ending says the format: expected .safetensors, or .pt, .pth, .bin or "
                     ".ckpt for PyTorch's, found \"%s\"",
                     path, ending_of(path));
}

bool convert_is_torch(const char *path)
{
    return strcmp(ending_of(path), ".safetensors") != 0;
}

int convert_write(const char *out, const struct copies *copies,
                  int (*write)(const struct copies *copies, struct output *output, void *user),
                  void *user)
{
    struct output *output = output_open(out);
    if (!output)
        return -1;
    progress_start("tensors", copies->n);
    int rc = write(copies, output, user);
    progress_finish();
    if (rc == 0)
        return output_commit(output);
    output_discard(output);
    return -1;
}

struct kl_output {
    bool torch, ldm;
    double scale;
};

static int write_kl(const struct copies *copies, struct output *output, void *user)
{
    const struct kl_output *to = user;
    if (to->torch)
        return convert_write_state_dict(copies, to->ldm ? "state_dict" : NULL, output);
    json_t *metadata = json_pack("{ss}", "format", "pt"); // what PyTorch's readers ask for
    if (to->scale != KL_SCALE)
        json_object_set_new(metadata, "scaling_factor", json_sprintf("%.17g", to->scale));
    int rc = copies_write_safetensors(copies, metadata, output);
    json_decref(metadata);
    return rc;
}

static int convert_kl(const char *in, const char *out, const struct convert_options *options)
{
    struct kl_file file;
    if (options->names == CONVERT_PUBLISHED)
        return error_set(STATUS_USAGE, "%s is an autoencoder: its --names are diffusers or ldm",
                         in);
    if (options->which >= 0)
        return error_set(STATUS_USAGE,
                         "%s is an autoencoder: it has one set of weights, and no --which", in);
    if (kl_file_open(&file, in) < 0)
        return -1;
    struct kl_output to = {.torch = convert_is_torch(out),
                           .ldm = options->names == CONVERT_LDM,
                           .scale = file.config.scale};
    struct copies copies = {.path = file.path, .dtype = options->dtype};
    struct naming naming;
    int rc =
        naming_make(&naming, &file.layout, to.ldm ? NAMING_KL_LDM : NAMING_OWN, file.config.levels);
    for (size_t i = 0; rc == 0 && i < file.layout.n_params; i++)
        rc = copies_add_param(&copies, to.ldm ? "first_stage_model." : "", &naming, &file.binding,
                              i);
    if (rc == 0)
        rc = convert_write(out, &copies, write_kl, &to);
    copies_free(&copies);
    naming_free(&naming);
    kl_file_close(&file);
    return rc;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), n = strlen(end);
    return length >= n && strcmp(text + length - n, end) == 0;
}

enum model { MODEL_DIT, MODEL_KL };

// The model that a file holds, or -1.
static int find_model(const char *path)
{
    static const struct {
        const char *ending;
        enum model model;
    } marks[] = {{"x_embedder.proj.weight", MODEL_DIT},
                 {"pos_embed.proj.weight", MODEL_DIT},
                 {"encoder.conv_in.weight", MODEL_KL}};
    struct weights weights;
    if (weights_open(&weights, path) < 0)
        return -1;
    for (size_t m = 0; m < sizeof marks / sizeof *marks; m++)
        for (size_t i = 0; i < weights.n_weights; i++)
            if (ends_with(weights.all[i].name, marks[m].ending)) {
                weights_close(&weights);
                return marks[m].model;
            }
    int rc = error_set(STATUS_DATA,
                       "%s: neither a DiT nor an autoencoder: none of its %zu tensors is named %s, "
                       "%s or %s",
                       path, weights.n_weights, marks[0].ending, marks[1].ending, marks[2].ending);
    weights_close(&weights);
    return rc;
}

int convert_file(const char *in, const char *out, const struct convert_options *options)
{
    if (check_ending(out) < 0)
        return -1;
    char *path = diffusers_find(in, "transformer");
    if (!path)
        path = diffusers_find(in, "vae");
    int model = path ? find_model(path) : -1, rc = -1;
    if (model >= 0)
        rc = model == MODEL_DIT ? convert_dit(path, out, options) : convert_kl(path, out, options);
    free(path);
    return rc;
}
