// average-weights: snapshots of power-function averages -> the average of any length.
// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/dit-file.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

// A snapshot in one of the files.
struct summand {
    const struct dit_file *file;
    const struct binding *weights;
    struct snapshot snapshot;
    double factor;
};

struct weighted_sum {
    struct dit_file *files; // (n_files)
    size_t n_files;
    struct summand *summands;
    size_t n;
    const struct dit_file *last; // of the latest snapshot
    struct snapshot wanted;
    double *total; // (largest tensor)
    float *values; // likewise
};

static int add_summand(struct weighted_sum *sum, const struct dit_file *file,
                       const struct average *average, int array)
{
    struct summand summand = {
        .file = file, .weights = &file->arrays[array], .snapshot.width = average->width};
    if (!(average->width > 0))
        return 0;
    if (dit_file_updates(file, &summand.snapshot.n) < 0 ||
        mem_grow(&sum->summands, sum->n, 1, sizeof *sum->summands) < 0)
        return -1;
    if (summand.snapshot.n == 0)
        return error_set(STATUS_DATA, "%s: an average of no updates", file->path);
    if (summand.snapshot.n > sum->wanted.n) {
        sum->wanted.n = summand.snapshot.n;
        sum->last = file;
    }
    sum->summands[sum->n++] = summand;
    return 0;
}

// Adds the snapshots of a file: the one that it says it is, or those in a checkpoint.
static int add_snapshots(struct weighted_sum *sum, const char *path)
{
    struct dit_file *file = &sum->files[sum->n_files];
    const struct dit_file *first = sum->files;
    const size_t before = sum->n;
    if (dit_file_open(file, path, NULL) < 0)
        return -1;
    sum->n_files++;
    struct objective objective = first->objective;
    if (dit_config_compare(&first->config, first->path, &file->config, file->path) < 0 ||
        objective_join(&objective, first->path, &file->objective, file->path) < 0)
        return -1;
    const char *text = weights_get(&file->weights, "average"), *end;
    struct average average;
    if (text && (average_parse(&average, text, &end) < 0 || *end))
        return error_set(STATUS_DATA, "%s: metadata average is \"%.40s\", expected power:WIDTH",
                         path, text);
    int rc = text ? add_summand(sum, file, &average, TRAINER_EMA) : 0;
    for (size_t i = 0; rc == 0 && i < file->n_more; i++)
        rc = add_summand(sum, file, &file->more[i], TRAINER_ARRAYS + (int)i);
    if (rc == 0 && sum->n == before)
        rc = error_set(STATUS_DATA,
                       "%s holds no power-function average, as dit-train --ema-power keeps", path);
    return rc;
}

// Finds by which factors the snapshots add up to the average that is wanted.
static int find_factors(struct weighted_sum *sum)
{
    struct snapshot *snapshots = mem_new(sum->n, sizeof *snapshots);
    double *factors = mem_new(sum->n, sizeof *factors), error = 0;
    for (size_t i = 0; snapshots && i < sum->n; i++)
        snapshots[i] = sum->summands[i].snapshot;
    int rc = snapshots && factors
                 ? average_from_snapshots(snapshots, sum->n, &sum->wanted, factors, &error)
                 : -1;
    for (size_t i = 0; rc == 0 && i < sum->n; i++) {
        sum->summands[i].factor = factors[i];
        tool_detail("%s: width %g after %" PRIu64 " updates: factor %g",
                    sum->summands[i].file->path, snapshots[i].width, snapshots[i].n, factors[i]);
    }
    free(snapshots);
    free(factors);
    if (rc < 0)
        return -1;
    (error > 0.1 ? tool_warn : tool_note)(
        "%zu snapshots make the average of width %g after %" PRIu64
        " updates, but for %.2g%% of its shares of the updates%s",
        sum->n, sum->wanted.width, sum->wanted.n, 100 * error,
        error > 0.1 ? ": more snapshots, or a width between theirs, come closer" : "");
    return 0;
}

static const float *add_up(void *user, enum trainer_array array, const struct param *param)
{
    struct weighted_sum *sum = user;
    (void)array;
    memset(sum->total, 0, param->count * sizeof *sum->total);
    for (size_t i = 0; i < sum->n; i++) {
        const struct summand *summand = &sum->summands[i];
        const size_t number = (size_t)(param - sum->last->layout.params); // the same in all files
        if (binding_read(summand->weights, number, sum->values) < 0)
            return NULL;
        for (size_t k = 0; k < param->count; k++)
            sum->total[k] += summand->factor * sum->values[k];
    }
    for (size_t k = 0; k < param->count; k++)
        sum->values[k] = (float)sum->total[k];
    progress_add(1);
    return sum->values;
}

static json_t *name_average(const struct weighted_sum *sum)
{
    const struct average average = {.width = sum->wanted.width};
    char text[AVERAGE_TEXT_SIZE];
    average_text(&average, text);
    json_t *metadata = json_deep_copy(sum->last->weights.metadata);
    dit_file_drop_training(metadata);
    if (metadata && json_object_set_new(metadata, "average", json_string(text)) == 0)
        return metadata;
    json_decref(metadata);
    error_set(STATUS_INTERNAL, "no memory for the metadata");
    return NULL;
}

static int write_sum(struct weighted_sum *sum, struct output *output)
{
    const struct layout *layout = &sum->last->layout;
    const struct dit_source source = {.config = &sum->last->config,
                                      .layout = layout,
                                      .updates = sum->wanted.n,
                                      .alone = true,
                                      .get = add_up,
                                      .user = sum};
    json_t *metadata = name_average(sum);
    sum->total = mem_new(layout_largest(layout), sizeof *sum->total);
    sum->values = mem_new(layout_largest(layout), sizeof *sum->values);
    int rc = -1;
    if (metadata && sum->total && sum->values)
        rc = dit_file_save(output, &source, metadata);
    else
        output_discard(output);
    json_decref(metadata);
    return rc;
}

static void free_sum(struct weighted_sum *sum)
{
    for (size_t i = 0; i < sum->n_files; i++)
        dit_file_close(&sum->files[i]);
    free(sum->files);
    free(sum->summands);
    free(sum->total);
    free(sum->values);
}

int main(int argc, char **argv)
{
    double length = 0;
    const struct option options[] = {
        OPTION_FLOAT("length", 'l', &length, AVERAGE_WIDTH_MIN, AVERAGE_WIDTH_MAX,
                     "length of the average to make, as its relative width, for example 0.08"),
        TOOL_OPTION_OUTPUT,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **paths = tool_start(
        argc, argv,
        &(struct tool_info){"average-weights", "--length=X [OPTION]... SNAPSHOT...",
                            "Make an average of a training's weights of any length from snapshots "
                            "of others.",
                            options});
    if (length == 0)
        tool_usage_error("--length is needed: the relative width of the average to make");
    if (!paths[0])
        tool_usage_error("expected snapshots, as dit-train --ema-snapshots makes them");
    struct weighted_sum sum = {.wanted.width = length};
    if (!(sum.files = mem_new(tool_count(paths), sizeof *sum.files)))
        tool_fail();
    struct output *output = output_open(tool.output);
    if (!output)
        tool_fail();
    for (size_t i = 0; paths[i]; i++)
        tool_check(add_snapshots(&sum, paths[i]));
    tool_check(find_factors(&sum));
    progress_start("tensors", sum.last->layout.n_params);
    tool_check(write_sum(&sum, output));
    free_sum(&sum);
    return tool_finish();
}
