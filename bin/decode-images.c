// Image files to a stream of images. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/images/image-file.h"
#include "formats/images/image-list.h"
#include "formats/images/resample.h"
#include "formats/tstream/row-writer.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"
#include "lib/tool/tool.h"

#define FILE_SIZE_MAX ((size_t)1 << 30)

static int64_t side = 256;
static bool exif, strict;

// One file on its way through the workers.
struct job {
    char *path;
    int64_t label;
    enum { DECODED, FAILED, FOLDER } result;
    struct error error;
    uint8_t *pixels; // (side, side, 3)
};

static void job_free(void *arg)
{
    struct job *job = arg;
    free(job->path);
    free(job->pixels);
    free(job);
}

static int decode_file(struct job *job)
{
    uint8_t *file;
    size_t size;
    struct stat st;
    if (stat(job->path, &st) < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot open", job->path);
    if (S_ISDIR(st.st_mode)) {
        job->result = FOLDER;
        return 0;
    }
    if (!S_ISREG(st.st_mode))
        return error_set(STATUS_NO_INPUT, "%s: expected a regular file", job->path);
    if (file_read_all(job->path, &file, &size, FILE_SIZE_MAX))
        return -1;
    struct image image;
    int rc = image_decode(&image, file, size, exif, side);
    free(file);
    if (rc)
        return error_prefix("%s", job->path);
    job->pixels = malloc(3 * (size_t)(side * side));
    rc = job->pixels ? resample_crop(image.rgb, image.width, image.height, side, job->pixels)
                     : error_set(STATUS_INTERNAL, "out of memory");
    image_free(&image);
    return rc;
}

static void job_run(void *arg)
{
    struct job *job = arg;
    if (job->result != FAILED && decode_file(job)) {
        job->result = FAILED;
        error_save(&job->error);
    }
}

static struct job *job_new(const struct image_entry *entry)
{
    struct job *job = mem_new(1, sizeof *job);
    // "-" is a file of that name here, not standard input.
    char *path = mem_strdup(strcmp(entry->path, "-") == 0 ? "./-" : entry->path);
    if (!job || !path)
        tool_fail();
    job->path = path;
    job->label = entry->label;
    if (entry->bad) {
        error_prefix("%s", job->path);
        job->result = FAILED;
        error_save(&job->error);
    }
    return job;
}

struct sink {
    struct row_writer rows;
    int image, label; // indices of the tensors
};

static void sink_take(struct sink *sink, const struct job *job)
{
    progress_add(job->result != FOLDER);
    if (job->result == FAILED) {
        error_restore(&job->error);
        if (strict || job->error.status == STATUS_INTERNAL)
            tool_fail();
        tool_skip(job->path);
    }
    if (job->result != DECODED)
        return;
    uint8_t *image = row_writer_at(&sink->rows, sink->image);
    uint8_t *label = row_writer_at(&sink->rows, sink->label);
    if (!image || !label)
        tool_fail();
    memcpy(image, job->pixels, sink->rows.schema->fields[sink->image].size);
    memcpy(label, &job->label, sizeof job->label);
    if (row_writer_next(&sink->rows))
        tool_fail();
}

static struct schema *make_schema(const struct class_names *classes)
{
    struct schema *schema = schema_new("images");
    const size_t shape[3] = {side, side, 3};
    char *names = classes ? class_names_json(classes) : NULL;
    if (!schema || (classes && !names) || schema_add(schema, "image", DTYPE_U8, shape, 3) ||
        schema_add(schema, "label", DTYPE_I64, NULL, 0) ||
        schema_set(schema, "image_size", "%zu", shape[0]) ||
        (names && schema_set(schema, "classes", "%s", names)) ||
        schema_add_provenance(schema, tool_provenance()))
        tool_fail();
    free(names);
    return schema;
}

// Keeps the workers busy and takes the images in the order of the list.
static void decode_all(struct image_list *list, struct sink *sink)
{
    struct pool *pool = pool_new(tool.threads, 4 * tool.threads);
    if (!pool)
        tool_fail();
    struct image_entry entry;
    struct job *job;
    int more = 1;
    do {
        while (more > 0 && !pool_full(pool) && (more = image_list_next(list, &entry)) > 0)
            if (pool_submit(pool, job_run, job_new(&entry)))
                tool_fail();
        if (more < 0)
            tool_fail();
        if ((job = pool_collect(pool, POOL_WAIT))) {
            sink_take(sink, job);
            job_free(job);
        }
    } while (job);
    pool_free(pool, job_free);
    if (row_writer_flush(&sink->rows))
        tool_fail();
}

int main(int argc, char **argv)
{
    struct image_list_options from = {.part = {0, 1}};
    bool labels = true;
    const struct option options[] = {
        {"size", 's', OPTION_INT, &side, "N", "side of the images in pixels (default 256)", 8, 8192,
         NULL},
        {"null", '0', OPTION_FLAG, &from.nul, NULL, "paths end with NUL (find -print0)", 0, 0,
         NULL},
        {"classes", 'c', OPTION_STRING, &from.classes, "FILE",
         "names of the classes, one a line, in the order of their numbers", 0, 0, NULL},
        {"labels", 0, OPTION_FLAG, &labels, NULL, "label images (--no-labels: all are -1)", 0, 0,
         NULL},
        {"part", 0, OPTION_PART, &from.part, "I/N", "take lines I, I+N, I+2N, ... of the list", 0,
         0, NULL},
        {"exif", 0, OPTION_FLAG, &exif, NULL, "turn images as their EXIF orientation says", 0, 0,
         NULL},
        {"strict", 0, OPTION_FLAG, &strict, NULL, "stop at the first file that cannot be decoded",
         0, 0, NULL},
        TOOL_OPTION_THREADS,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    from.paths = tool_start(
        argc, argv,
        &(struct tool_info){
            "decode-images", "[OPTION]... [PATH]...",
            "Decode image files, listed on standard input, into a stream of images.", options});
    from.no_labels = !labels;

    struct output *output = output_open(tool.output);
    if (!output)
        tool_fail();
    struct image_list *list = image_list_open(&from);
    if (!list)
        tool_fail();
    const struct class_names *classes = image_list_classes(list);
    if (classes && !from.classes)
        tool_note("%zu files, %zu class%s", image_list_count(list), classes->n,
                  classes->n == 1 ? "" : "es");
    struct schema *schema = make_schema(classes);
    struct sink sink = {
        .rows = {.out = tstream_create(output, schema, tool.threads, tool_level(output)),
                 .schema = schema},
        .image = schema_find(schema, "image"),
        .label = schema_find(schema, "label")};
    if (!sink.rows.out)
        tool_fail();
    progress_start("images", image_list_count(list));
    decode_all(list, &sink);
    progress_finish();
    if (tstream_finish(sink.rows.out))
        tool_fail();
    schema_free(schema);
    image_list_close(list);
    return tool_finish();
}
