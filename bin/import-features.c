// import-features: folders of extracted features -> a stream of latents.
// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/class-names.h"
#include "formats/latents/features.h"
#include "formats/latents/latent-fields.h"
#include "formats/tstream/row-writer.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/model/autoencoder-kl.h"
#include "lib/tool/input-files.h"
#include "lib/tool/tool.h"

static struct features features;
static const char *vae, *class_file;
static struct class_names classes;
static enum dtype dtype = DTYPE_F32;
static struct part part = {0, 1};
static bool strict;
static struct latent_fields fields; // of the output

// A file of a latent, and that of its label.
struct feature {
    struct input_file file; // the latent's
    size_t index;           // among the features
    float *mean, *std;      // (C, h, w) each; std NULL without a spread
    int64_t label;
};

struct import {
    size_t next, n; // features of this part, by their order
    struct row_writer rows;
    int label; // index of the output's tensor
};

static int next_feature(void *user, void *file)
{
    struct import *import = user;
    struct feature *feature = file;
    if (import->next == import->n)
        return 0;
    feature->index = part.index + import->next++ * part.count;
    feature->file.path = features_path(&features, feature->index);
    feature->mean = mem_new(features.count, sizeof *feature->mean);
    feature->std = features.spread ? mem_new(features.count, sizeof *feature->std) : NULL;
    return feature->file.path && feature->mean && (feature->std || !features.spread) ? 1 : -1;
}

// A mean and its spread are stored as the autoencoder gives them; a stream holds them scaled.
static void scale_feature(struct feature *feature)
{
    for (size_t i = 0; features.spread && i < features.count; i++) {
        feature->mean[i] *= (float)KL_SCALE;
        feature->std[i] *= (float)KL_SCALE;
    }
}

static int check_feature(const struct feature *feature)
{
    if (class_file && feature->label >= (int64_t)classes.n)
        return error_set(STATUS_DATA, "label %" PRId64 ", but %s has %zu class%s", feature->label,
                         class_file, classes.n, classes.n == 1 ? "" : "es");
    return latent_check(feature->mean, features.count, dtype) < 0 ||
                   (features.spread && latent_check(feature->std, features.count, dtype) < 0)
               ? -1
               : 0;
}

static int read_feature(void *file)
{
    struct feature *feature = file;
    if (features_read(&features, feature->index, feature->mean, feature->std, &feature->label) < 0)
        return -1;
    scale_feature(feature);
    return check_feature(feature) < 0 ? error_prefix("%s", feature->file.path) : 0;
}

static int write_floats(struct import *import, int field, const float *values)
{
    uint8_t *out = row_writer_at(&import->rows, field);
    return out ? floats_write(out, dtype, values, features.count) : -1;
}

static int write_feature(void *user, void *file)
{
    struct import *import = user;
    const struct feature *feature = file;
    progress_add(1);
    uint8_t *label = row_writer_at(&import->rows, import->label);
    if (!label || write_floats(import, fields.mean, feature->mean) < 0 ||
        (features.spread && write_floats(import, fields.std, feature->std) < 0))
        return -1;
    memcpy(label, &feature->label, sizeof feature->label);
    return row_writer_next(&import->rows);
}

static void release_feature(void *file)
{
    struct feature *feature = file;
    free(feature->mean);
    free(feature->std);
}

static struct schema *features_schema_new(void)
{
    struct schema *schema = schema_new("latents");
    char *names = class_file ? class_names_json(&classes) : NULL;
    char *autoencoder = vae ? path_last_part(vae) : NULL; // as vae-encode records it
    if (!schema || (class_file && !names) || (vae && !autoencoder) ||
        latent_fields_add(schema, features.spread, false, dtype, features.shape, &fields) < 0 ||
        schema_add(schema, "label", DTYPE_I64, NULL, 0) < 0 ||
        (fields.height == fields.width &&
         schema_set(schema, "image_size", "%zu", FEATURES_DOWNSAMPLE * fields.height) < 0) ||
        schema_set(schema, "latent_scale", "%.9g", KL_SCALE) < 0 ||
        (vae && schema_set(schema, "autoencoder", "%s", autoencoder) < 0) ||
        (names && schema_set(schema, "classes", "%s", names) < 0) ||
        schema_add_provenance(schema, tool_provenance()) < 0 ||
        latent_fields_find(schema, &fields) < 0) // again, as the label comes before them
        tool_fail();
    free(names);
    free(autoencoder);
    return schema;
}

// A file that belongs to no feature.
static void skip_stray(const char *path)
{
    if (part.index > 0) // the first part reports them
        return;
    if (strict) {
        error_prefix("%s", path);
        tool_fail();
    }
    tool_skip(path);
}

int main(int argc, char **argv)
{
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    int choice = 2;
    bool spread = true;
    const struct option options[] = {
        OPTION_STRING("vae", 0, &vae, "NAME",
                      "record NAME as the autoencoder that made the latents"),
        OPTION_STRING("classes", 'c', &class_file, "FILE",
                      "names of the classes, one a line, in the order of their numbers"),
        OPTION_CHOICE("dtype", 0, &choice, "type of the latents in the stream (default f32)", "f16",
                      "bf16", "f32"),
        OPTION_FLAG("spread", 0, &spread,
                    "take 8 channels as means and spreads of 4 (--no-spread: as a latent of 8)"),
        OPTION_PART("part", 0, &part, "read only images I, I+N, I+2N, ... of the folders"),
        OPTION_FLAG("strict", 0, &strict, "stop at the first file that cannot be used"),
        TOOL_OPTION_THREADS,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **folders =
        tool_start(argc, argv,
                   &(struct tool_info){
                       "import-features", "[OPTION]... FEATURES LABELS | FOLDER",
                       "Read folders of extracted features into a stream of latents.", options});
    size_t n_folders = tool_count(folders);
    if (n_folders < 1 || n_folders > 2)
        tool_usage_error("expected the folders FEATURES and LABELS, or one that holds both");
    dtype = dtypes[choice];

    struct output *output = output_open(tool.output);
    if (!output || (class_file && class_names_read(&classes, class_file) < 0) ||
        features_open(&features, folders, !spread, skip_stray) < 0)
        tool_fail();
    tool_note("%zu images, latents of %zux%zux%zu%s", features.n, features.shape[0],
              features.shape[1], features.shape[2],
              features.spread ? ": means and standard deviations, now scaled" : "");
    struct schema *schema = features_schema_new();
    struct tstream_writer *out =
        tstream_create(output, schema, (size_t)tool.threads, tool_level(output));
    if (!out)
        tool_fail();
    struct import import = {
        .n = part.index < features.n ? (features.n - 1 - part.index) / part.count + 1 : 0,
        .rows = {.out = out, .schema = schema},
        .label = schema_find(schema, "label")};
    progress_start("latents", import.n);
    input_files_run(&(struct input_files){.size = sizeof(struct feature),
                                          .ahead = 16,
                                          .strict = strict,
                                          .partial = part.count > 1,
                                          .user = &import,
                                          .next = next_feature,
                                          .read = read_feature,
                                          .use = write_feature,
                                          .release = release_feature});
    tool_check(row_writer_flush(&import.rows));
    progress_finish();
    tool_check(tstream_finish(out));
    schema_free(schema);
    features_close(&features);
    class_names_free(&classes);
    return tool_finish();
}
