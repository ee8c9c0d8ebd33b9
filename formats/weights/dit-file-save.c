// Lists and writes the checkpoints of dit-train. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/checksum.h"
#include "formats/weights/dit-file.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

// What precedes the published names in each of a checkpoint's arrays.
static const char *const prefixes[TRAINER_ARRAYS] = {
    [TRAINER_EMA] = "",
    [TRAINER_MODEL] = "model.",
    [TRAINER_EXP_AVG] = "opt.exp_avg.",
    [TRAINER_EXP_AVG_SQ] = "opt.exp_avg_sq.",
};

void dit_file_average_prefix(const struct average *average, char prefix[DIT_AVERAGE_SIZE])
{
    char text[AVERAGE_TEXT_SIZE], *colon;
    average_text(average, text);
    if ((colon = strchr(text, ':')))
        *colon = '_';
    snprintf(prefix, DIT_AVERAGE_SIZE, "ema_%s.", text);
}

int dit_file_list_arrays(struct write_list *list, const struct naming *naming,
                         const struct binding *arrays, const struct average *more, size_t n_more)
{
    for (size_t array = 0; array < TRAINER_ARRAYS + n_more; array++) {
        char average[DIT_AVERAGE_SIZE];
        if (array >= TRAINER_ARRAYS)
            dit_file_average_prefix(&more[array - TRAINER_ARRAYS], average);
        const char *prefix = array < TRAINER_ARRAYS ? prefixes[array] : average;
        if (array == TRAINER_EXP_AVG)
            list->dtype = DTYPE_COUNT; // the optimizer's state keeps its type
        if (arrays && !arrays[array].tensors)
            continue;
        for (size_t i = 0; i < naming->layout->n_params; i++)
            if (write_list_add_param(list, prefix, naming, arrays ? &arrays[array] : NULL, i) < 0)
                return -1;
    }
    return 0;
}

// Lists the further averages as "averages".
static int add_averages(json_t *metadata, const struct average *more, size_t n)
{
    char text[TRAINER_AVERAGES_MAX * (AVERAGE_TEXT_SIZE + 1)] = "", one[AVERAGE_TEXT_SIZE];
    json_object_del(metadata, "averages");
    for (size_t i = 0, at = 0; i < n; i++) {
        average_text(&more[i], one);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? "," : "", one);
    }
    if (n && json_object_set_new(metadata, "averages", json_string(text)) < 0)
        return error_set(STATUS_INTERNAL, "no memory for a checkpoint's metadata");
    return 0;
}

static int add_number(json_t *metadata, const char *key, uint64_t value)
{
    if (json_object_set_new(metadata, key, json_sprintf("%" PRIu64, value)) < 0)
        return error_set(STATUS_INTERNAL, "no memory for a checkpoint's metadata");
    return 0;
}

int dit_file_add_sizes(json_t *metadata, const struct dit_config *c)
{
    const struct {
        const char *key;
        size_t value;
    } sizes[] = {{"num_heads", c->heads},       {"patch_size", c->patch},
                 {"input_size", c->input_size}, {"in_channels", c->channels},
                 {"hidden_size", c->hidden},    {"depth", c->depth},
                 {"num_classes", c->classes}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (add_number(metadata, sizes[i].key, sizes[i].value) < 0)
            return -1;
    return 0;
}

int dit_file_add_updates(json_t *metadata, uint64_t updates)
{
    return add_number(metadata, "updates", updates);
}

void dit_file_drop_metadata(json_t *metadata, const char *start)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(metadata, next, key, value)
    {
        if (strncmp(key, start, strlen(start)) == 0)
            json_object_del(metadata, key);
    }
}

void dit_file_drop_training(json_t *metadata)
{
    static const char *const starts[] = {
        "kind",  "step",      "updates", "position",   "fingerprint", "shards",  "since_log",
        "ranks", "ema_start", "average", CHECKSUM_KEY, "folder",      "setting."};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        dit_file_drop_metadata(metadata, starts[i]);
}

// Entry 0 is the table of positions.
static const float *fetch_param(void *user, size_t i)
{
    const struct dit_source *source = user;
    const size_t n = source->layout->n_params, array = source->alone ? TRAINER_EMA : (i - 1) / n;
    return source->get(source->user, (enum trainer_array)array,
                       &source->layout->params[(i - 1) % n]);
}

static int list_source(struct write_list *list, const struct naming *naming,
                       const struct dit_source *source)
{
    int rc = 0;
    if (!source->alone)
        return dit_file_list_arrays(list, naming, NULL, source->more, source->n_more);
    for (size_t i = 0; rc == 0 && i < source->layout->n_params; i++)
        rc = write_list_add_param(list, "", naming, NULL, i);
    return rc;
}

int dit_file_save(struct output *output, const struct dit_source *source, json_t *metadata)
{
    const struct dit_config *c = source->config;
    const size_t shape[] = {1, dit_tokens(c), c->hidden};
    float *positions = mem_new(shape[1] * shape[2], sizeof *positions);
    struct naming naming = {0};
    struct dit_source copy = *source;
    struct write_list list = {
        .path = output_name(output), .dtype = DTYPE_COUNT, .fetch = fetch_param, .user = &copy};
    int rc = -1;
    if (positions && naming_make(&naming, source->layout, NAMING_OWN, c->depth) == 0 &&
        write_list_add_values(&list, "", "pos_embed", shape, 3, positions) == 0 &&
        list_source(&list, &naming, source) == 0 && dit_file_add_sizes(metadata, c) == 0 &&
        dit_file_add_updates(metadata, source->updates) == 0 &&
        add_averages(metadata, source->more, source->n_more) == 0 &&
        (source->alone || checksum_reserve(metadata) == 0)) {
        dit_position_table(c, positions);
        rc = write_list_safetensors(&list, metadata, output);
    }
    if (rc == 0)
        rc = output_commit(output);
    else
        output_discard(output);
    write_list_free(&list);
    naming_free(&naming);
    free(positions);
    return rc;
}

struct average_reader {
    const struct dit_file *file;
    const struct binding *from;
    float *values; // (largest tensor)
};

static const float *read_average(void *user, enum trainer_array array, const struct param *param)
{
    const struct average_reader *reader = user;
    (void)array;
    return binding_read(reader->from, (size_t)(param - reader->file->layout.params),
                        reader->values) < 0
               ? NULL
               : reader->values;
}

int dit_file_save_average(struct output *output, const struct dit_file *file, size_t i)
{
    struct average_reader reader = {file, &file->arrays[TRAINER_ARRAYS + i],
                                    mem_new(layout_largest(&file->layout), sizeof(float))};
    struct dit_source source = {.config = &file->config,
                                .layout = &file->layout,
                                .alone = true,
                                .get = read_average,
                                .user = &reader};
    json_t *metadata = json_deep_copy(file->weights.metadata);
    char text[AVERAGE_TEXT_SIZE];
    average_text(&file->more[i], text);
    dit_file_drop_training(metadata);
    int rc = -1;
    if (!metadata || json_object_set_new(metadata, "average", json_string(text)) < 0)
        error_set(STATUS_INTERNAL, "no memory for the metadata of an average");
    else if (reader.values && dit_file_updates(file, &source.updates) == 0)
        rc = 0;
    if (rc == 0)
        rc = dit_file_save(output, &source, metadata);
    else
        output_discard(output);
    json_decref(metadata);
    free(reader.values);
    return rc;
}

int dit_file_check(const struct dit_file *file)
{
    return weights_check_file(&file->weights);
}
