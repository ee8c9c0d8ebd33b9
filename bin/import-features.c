// Folders of extracted features to a stream of latents. SPDX-License-Identifier: MIT
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
#include "lib/base/pool.h"
#include "lib/tool/tool.h"

static struct features features;
static const char *vae, *class_file;
static struct class_names classes;
static enum dtype dtype = DTYPE_F32;
static struct part part = {0, 1};
static bool strict;

// One pair of files on its way through the workers.
struct job {
    uint64_t number;
    char *path; // of the latent
    bool failed;
    struct error error;
    float *latent; // (C, h, w)
    int64_t label;
};

static void job_free(void *arg)
{
    struct job *job = arg;
    free(job->path);
    free(job->latent);
    free(job);
}

static struct job *job_new(uint64_t number)
{
    struct job *job = mem_new(1, sizeof *job);
    if (!job || !(job->path = features_path(&features, number)) ||
        !(job->latent = mem_new(features.count, sizeof *job->latent)))
        tool_fail();
    job->number = number;
    return job;
}

static int check_job(const struct job *job)
{
    if (class_file && job->label >= (int64_t)classes.n)
        return error_set(STATUS_DATA, "label %" PRId64 ", but %s has %zu class%s", job->label,
                         class_file, classes.n, classes.n == 1 ? "" : "es");
    return latent_check(job->latent, features.count, dtype);
}

static void job_run(void *arg)
{
    struct job *job = arg;
    int rc = features_read(&features, job->number, job->latent, &job->label);
    if (rc == 0 && check_job(job))
        rc = error_prefix("%s", job->path);
    if (rc) {
        job->failed = true;
        error_save(&job->error);
    }
}

struct sink {
    struct row_writer rows;
    int latent, label; // indices of the tensors
};

static void sink_take(struct sink *sink, const struct job *job)
{
    progress_add(1);
    if (job->failed) {
        error_restore(&job->error);
        if (strict || job->error.status == STATUS_INTERNAL)
            tool_fail();
        tool_skip(job->path);
        return;
    }
    uint8_t *latent = row_writer_at(&sink->rows, sink->latent);
    uint8_t *label = row_writer_at(&sink->rows, sink->label);
    if (!latent || !label || floats_write(latent, dtype, job->latent, features.count))
        tool_fail();
    memcpy(label, &job->label, sizeof job->label);
    if (row_writer_next(&sink->rows))
        tool_fail();
}

static struct schema *make_schema(void)
{
    struct latent_fields fields;
    struct schema *schema = schema_new("latents");
    char *names = class_file ? class_names_json(&classes) : NULL;
    if (!schema || (class_file && !names) ||
        latent_fields_add(schema, false, false, dtype, features.shape, &fields) ||
        schema_add(schema, "label", DTYPE_I64, NULL, 0) ||
        (fields.height == fields.width &&
         schema_set(schema, "image_size", "%zu", FEATURES_DOWNSAMPLE * fields.height)) ||
        schema_set(schema, "latent_scale", "%.9g", FEATURES_LATENT_SCALE) ||
        (vae && schema_set(schema, "autoencoder", "%s", vae)) ||
        (names && schema_set(schema, "classes", "%s", names)) ||
        schema_add_provenance(schema, tool_provenance()))
        tool_fail();
    free(names);
    return schema;
}

// Keeps the workers busy and takes the part's n latents in the order of their numbers.
static void import_all(struct sink *sink, size_t n)
{
    struct pool *pool = pool_new(tool.threads, 16 * tool.threads);
    if (!pool)
        tool_fail();
    size_t next = 0;
    struct job *job;
    do {
        for (; next < n && !pool_full(pool); next++) {
            uint64_t number = features.numbers[part.index + next * part.count];
            if (pool_submit(pool, job_run, job_new(number)))
                tool_fail();
        }
        if ((job = pool_collect(pool, POOL_WAIT))) {
            sink_take(sink, job);
            job_free(job);
        }
    } while (job);
    pool_free(pool, job_free);
    if (row_writer_flush(&sink->rows))
        tool_fail();
}

static void skip_stray(const char *path)
{
    if (part.index > 0) // they belong to the first part
        return;
    if (strict) {
        error_prefix("%s", path);
        tool_fail();
    }
    tool_skip(path);
}

int main(int argc, char **argv)
{
    static const char *const dtype_names[] = {"f16", "bf16", "f32", NULL};
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    int choice = 2;
    const struct option options[] = {
        {"vae", 0, OPTION_STRING, &vae, "NAME",
         "record the autoencoder that made them, for vae-decode and dit-sample", 0, 0, NULL},
        {"classes", 'c', OPTION_STRING, &class_file, "FILE",
         "names of the classes, one a line, in the order of the labels", 0, 0, NULL},
        {"dtype", 0, OPTION_CHOICE, &choice, "TYPE", "f16, bf16 or f32 (default f32)", 0, 0,
         dtype_names},
        {"part", 0, OPTION_PART, &part, "I/N", "take images I, I+N, I+2N, ... of the folders", 0, 0,
         NULL},
        {"strict", 0, OPTION_FLAG, &strict, NULL, "stop at the first file that cannot be used", 0,
         0, NULL},
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
    if (!output || (class_file && class_names_read(&classes, class_file)) ||
        features_open(&features, folders, skip_stray))
        tool_fail();
    tool_note("%zu images, latents of %zux%zux%zu", features.n, features.shape[0],
              features.shape[1], features.shape[2]);
    struct schema *schema = make_schema();
    struct sink sink = {
        .rows = {.out = tstream_create(output, schema, tool.threads, tool_level(output)),
                 .schema = schema},
        .latent = schema_find(schema, "latent"),
        .label = schema_find(schema, "label")};
    if (!sink.rows.out)
        tool_fail();
    size_t n = part.index < features.n ? (features.n - 1 - part.index) / part.count + 1 : 0;
    progress_start("latents", n);
    import_all(&sink, n);
    progress_finish();
    if (tstream_finish(sink.rows.out))
        tool_fail();
    schema_free(schema);
    features_close(&features);
    class_names_free(&classes);
    return tool_finish();
}
