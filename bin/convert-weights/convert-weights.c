// convert-weights: reads a file of weights and writes another. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "bin/convert-weights/convert.h"
#include "formats/weights/diffusers.h"
#include "formats/weights/inception-file.h"
#include "formats/weights/kl-file.h"
#include "lib/base/error.h"
#include "lib/tool/tool.h"

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), n = strlen(end);
    return length >= n && strcmp(text + length - n, end) == 0;
}

enum model { MODEL_DIT, MODEL_KL, MODEL_INCEPTION };

// Tells which model a file holds. -1 with an error.
static int find_model(const char *path)
{
    static const struct {
        const char *ending;
        enum model model;
    } marks[] = {{"x_embedder.proj.weight", MODEL_DIT},
                 {"pos_embed.proj.weight", MODEL_DIT},
                 {"encoder.conv_in.weight", MODEL_KL},
                 {INCEPTION_MARKER, MODEL_INCEPTION}};
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
                       "%s: neither a DiT nor an autoencoder nor Inception: none of its %zu "
                       "tensors is named %s, %s, %s or %s",
                       path, weights.n_weights, marks[0].ending, marks[1].ending, marks[2].ending,
                       marks[3].ending);
    weights_close(&weights);
    return rc;
}

static int convert_file(const char *in, const char *out, const struct convert_options *options)
{
    if (convert_check_ending(out) < 0)
        return -1;
    char *path = diffusers_find(in, "transformer");
    if (!path)
        path = diffusers_find(in, "vae");
    int model = path ? find_model(path) : -1, rc = -1;
    if (model >= 0)
        rc = model == MODEL_DIT  ? convert_dit(path, out, options)
             : model == MODEL_KL ? convert_kl(path, out, options)
                                 : convert_inception(path, out, options);
    free(path);
    return rc;
}

// Reads all that a file holds of a model. -1 with an error if it is no model, or not whole.
static int check_file(const char *path, const struct dit_hints *hints)
{
    char *file = diffusers_find(path, "transformer");
    if (!file)
        file = diffusers_find(path, "vae");
    int model = file ? find_model(file) : -1, rc = -1;
    struct dit_file dit;
    struct kl_file kl;
    struct inception_file inception;
    if (model == MODEL_DIT && (rc = dit_file_open(&dit, file, hints)) == 0) {
        rc = weights_check_all(&dit.weights);
        dit_file_close(&dit);
    } else if (model == MODEL_KL && (rc = kl_file_open(&kl, file)) == 0) {
        rc = weights_check_all(&kl.weights);
        kl_file_close(&kl);
    } else if (model == MODEL_INCEPTION && (rc = inception_file_open(&inception, file)) == 0) {
        rc = weights_check_all(&inception.weights);
        inception_file_close(&inception);
    }
    free(file);
    if (rc == 0)
        tool_note("%s: %s, whole", path,
                  model == MODEL_DIT  ? "a DiT"
                  : model == MODEL_KL ? "an autoencoder of Stable Diffusion"
                                      : "the Inception network of FID");
    return rc;
}

int main(int argc, char **argv)
{
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    int64_t heads = 0, image_size = 0;
    bool check = false;
    const char *which = NULL;
    int names = -1, dtype = -1, objective = -1, path = -1, prediction = -1;
    const struct option options[] = {
        OPTION_FLAG("check", 0, &check,
                    "read the given files, compare their checksums, write nothing"),
        OPTION_CHOICE(
            "names", 0, &names,
            "names of the tensors in OUT (default: published; diffusers for an autoencoder)",
            "published", "diffusers", "ldm"),
        OPTION_STRING("which", 0, &which, "WEIGHTS",
                      "weights to take from a training: ema, model, ema:DECAY, power:WIDTH or all "
                      "(default all; ema with --names diffusers)"),
        OPTION_CHOICE("dtype", 0, &dtype,
                      "convert the weights to this type (default: keep their types)", "f32", "f16",
                      "bf16"),
        OPTION_CHOICE("objective", 0, &objective,
                      "what the model was trained for, if IN does not tell it", "diffusion",
                      "flow"),
        OPTION_CHOICE("path", 0, &path, "path of flow matching, if IN does not tell it", "linear",
                      "gvp", "vp"),
        OPTION_CHOICE("prediction", 0, &prediction,
                      "what a model of flow matching predicts, if IN does not tell it", "velocity",
                      "noise", "score"),
        OPTION_INT("heads", 0, &heads, 1, 1024,
                   "number of attention heads, where IN does not give it"),
        OPTION_INT("image-size", 0, &image_size, 8, 32768,
                   "side of the images in pixels, to change it or where IN does not give it"),
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **files = tool_start(
        argc, argv,
        &(struct tool_info){"convert-weights", "[OPTION]... IN OUT | --check FILE...",
                            "Convert a file of weights to another format (safetensors, PyTorch), "
                            "other tensor names or another type.",
                            options});
    if (tool_count(files) != 2 && !check)
        tool_usage_error("expected two files, IN and OUT");
    if (!files[0])
        tool_usage_error("--check: expected files, found none");
    const struct convert_options how = {
        .names = names,
        .which = which,
        .dtype = dtype < 0 ? DTYPE_COUNT : dtypes[dtype],
        .hints = {.heads = (size_t)heads,
                  .image_size = (size_t)image_size,
                  .objective = {(enum objective_kind)(objective + 1), (enum flow_path)(path + 1),
                                (enum flow_prediction)(prediction + 1), 0}}};
    if (!check)
        tool_check(convert_file(files[0], files[1], &how));
    for (; check && *files; files++)
        tool_check(check_file(*files, &how.hints));
    return tool_finish();
}
