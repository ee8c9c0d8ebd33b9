// encode-images: a stream of images -> a picture file for each. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/images/class-names.h"
#include "formats/images/image-stream.h"
#include "formats/images/jpeg.h"
#include "formats/images/png.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"
#include "lib/base/printable.h"
#include "lib/tool/tool.h"

enum format { FORMAT_PNG, FORMAT_JPEG };
enum { TEXTS = 4 };

// What all pictures share.
struct encoding {
    const char *folder;
    enum format format;
    int quality;
    bool by_class, force;
    struct image_stream in;
    json_t *names;           // of the classes, or NULL
    struct class_names made; // the folders of classes that are there
    char *history;           // what the stream says of the programs that made it, or NULL
};

struct picture_file {
    const struct encoding *all;
    char *path;
    const uint8_t *rgb;
    int64_t label; // -1 if there is none
    uint64_t number;
    struct error error;
};

// The name of a class, or NULL.
static const char *class_name(const struct encoding *all, int64_t label)
{
    return label >= 0 ? json_string_value(json_array_get(all->names, (size_t)label)) : NULL;
}

// Whether a name can be a folder's: no other folder's, no hidden one's, and fit for a terminal.
static bool is_folder_name(const char *name)
{
    char shown[NAME_MAX + 1];
    const size_t length = strlen(name);
    if (length == 0 || length > NAME_MAX || *name == '.' || strchr(name, '/'))
        return false;
    memcpy(shown, name, length + 1);
    return make_printable(shown, length) == length && strcmp(shown, name) == 0;
}

// The folder of a class, which is made if it is not there; malloc'd. NULL with an error.
static char *class_folder(struct encoding *all, int64_t label)
{
    const char *name = class_name(all, label);
    char *folder = name && is_folder_name(name) ? path_join(all->folder, name)
                   : label < 0                  ? path_join(all->folder, "unlabelled")
                                                : mem_printf("%s/%06" PRId64, all->folder, label);
    if (!folder || class_names_find(&all->made, folder, strlen(folder)) >= 0)
        return folder;
    if (folder_make(folder) == 0 && class_names_add(&all->made, folder, strlen(folder)) >= 0)
        return folder;
    free(folder);
    return NULL;
}

// The history of the stream, a line for each program; malloc'd. NULL with an error, or without one
// if there is no history.
static char *make_history(const struct schema *schema)
{
    char *history = NULL;
    for (unsigned i = 0;; i++) {
        char key[16];
        snprintf(key, sizeof key, "pg.%u", i);
        const char *entry = schema_get(schema, key);
        if (!entry)
            return history;
        char *longer = mem_printf("%s%s%s", history ? history : "", history ? "\n" : "", entry);
        free(history);
        if (!longer)
            tool_fail();
        history = longer;
    }
}

static int write_png(struct output *output, const struct picture_file *file)
{
    const struct encoding *all = file->all;
    char label[24];
    struct image_text texts[TEXTS] = {{"Software", "dit-tools " DIT_TOOLS_VERSION}};
    size_t n = 1;
    if (file->label >= 0) {
        snprintf(label, sizeof label, "%" PRId64, file->label);
        texts[n++] = (struct image_text){"label", label};
    }
    const char *name = class_name(all, file->label);
    if (name)
        texts[n++] = (struct image_text){"class", name};
    if (all->history)
        texts[n++] = (struct image_text){"history", all->history};
    return image_write_png(output, file->rgb, all->in.width, all->in.height, texts, n);
}

static int write_picture_file(const struct picture_file *file)
{
    const struct encoding *all = file->all;
    if (!all->force && access(file->path, F_OK) == 0)
        return error_set(STATUS_CANT_CREATE, "%s already exists; --force replaces it", file->path);
    struct output *output = output_open(file->path);
    if (!output)
        return -1;
    const int rc = all->format == FORMAT_PNG ? write_png(output, file)
                                             : image_write_jpeg(output, file->rgb, all->in.width,
                                                                all->in.height, all->quality);
    if (rc == 0)
        return output_commit(output);
    output_discard(output);
    return -1;
}

static void run_job(void *job)
{
    struct picture_file *file = job;
    if (write_picture_file(file) < 0)
        error_save(&file->error);
}

static void free_job(void *job)
{
    free(((struct picture_file *)job)->path);
    free(job);
}

// NULL with an error.
static struct picture_file *next_job(struct encoding *all, const struct batch *batch, size_t row)
{
    struct picture_file *file = mem_new(1, sizeof *file);
    if (!file)
        return NULL;
    *file = (struct picture_file){.all = all,
                                  .rgb = batch->data[all->in.image] + row * all->in.image_size,
                                  .label = -1,
                                  .number = batch->first + row};
    if (all->in.label >= 0)
        memcpy(&file->label, batch->data[all->in.label] + row * sizeof file->label,
               sizeof file->label);
    char *folder = all->by_class ? class_folder(all, file->label) : NULL;
    if (folder || !all->by_class)
        file->path = mem_printf("%s/%06" PRIu64 "%s", folder ? folder : all->folder, file->number,
                                all->format == FORMAT_PNG ? ".png" : ".jpg");
    free(folder);
    if (file->path)
        return file;
    free(file);
    return NULL;
}

// Encodes the images of a batch on all threads. -1 with an error, while other jobs may still run.
static int encode_batch(struct encoding *all, struct pool *pool, const struct batch *batch)
{
    size_t row = 0;
    for (struct picture_file *file;;) {
        while (row < batch->rows && !pool_full(pool))
            if (!(file = next_job(all, batch, row++)) || pool_submit(pool, run_job, file) < 0)
                return -1;
        if (!(file = pool_collect(pool, POOL_WAIT)))
            return 0;
        const int rc = file->error.status == STATUS_OK ? 0 : error_restore(&file->error);
        free_job(file);
        if (rc < 0)
            return -1;
        progress_add(1);
    }
}

// Finds the labels, where there are any.
static int find_labels(const struct schema *schema)
{
    const int label = schema_find(schema, "label");
    const bool fits =
        label >= 0 && schema->fields[label].dtype == DTYPE_I64 && schema->fields[label].rank == 0;
    return fits ? label : -1;
}

int main(int argc, char **argv)
{
    struct encoding all = {.format = FORMAT_PNG};
    int format = FORMAT_PNG;
    int64_t quality = 95;
    const struct option options[] = {
        OPTION_CHOICE("format", 0, &format, "kind of the files (default png)", "png", "jpeg"),
        OPTION_INT("quality", 0, &quality, 1, 100, "quality of JPEG files (default 95)"),
        OPTION_FLAG("by-class", 'b', &all.by_class, "write into a folder for each class"),
        OPTION_FLAG("force", 'f', &all.force, "replace files that are already in FOLDER"),
        TOOL_OPTION_THREADS,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands = tool_start(
        argc, argv,
        &(struct tool_info){"encode-images", "[OPTION]... FOLDER [FILE]",
                            "Write each image of a stream as a PNG or JPEG file.", options});
    if (!operands[0])
        tool_usage_error("expected a FOLDER for the pictures");
    all.folder = operands[0];
    const char *input = tool_one_input(operands + 1);
    all.format = (enum format)format;
    all.quality = (int)quality;
    tool_check(folder_make(all.folder));
    struct image_stream *in = &all.in;
    tool_check(image_stream_open(in, input, (size_t)tool.threads, all.by_class));
    const struct schema *schema = tstream_schema(in->reader);
    if (!all.by_class)
        in->label = find_labels(schema);
    if (class_names_parse(schema_get(schema, "classes"), &all.names) < 0) {
        error_prefix("%s", in->name);
        tool_fail();
    }
    all.history = make_history(schema);
    struct pool *pool = pool_new((size_t)tool.threads, 2 * (size_t)tool.threads);
    if (!pool)
        tool_fail();

    struct batch *batch;
    int rc;
    progress_start("images", in->count);
    while ((rc = tstream_read(in->reader, &batch)) > 0) {
        if (encode_batch(&all, pool, batch) < 0) {
            // What other threads have begun must be gone before the process ends.
            struct error error;
            error_save(&error);
            pool_free(pool, free_job);
            error_restore(&error);
            tool_fail();
        }
        batch_free(batch);
    }
    progress_finish();
    tool_check(rc);
    pool_free(pool, NULL);
    tstream_close(in->reader);
    class_names_free(&all.made);
    json_decref(all.names);
    free(all.history);
    return tool_finish();
}
