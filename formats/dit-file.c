// Weights and checkpoints as safetensors. SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/dit-file.h"
#include "lib/error.h"
#include "lib/mem.h"

// What stands before the published names in each of a checkpoint's arrays.
static const char *const prefixes[TRAINER_ARRAYS] = {
    [TRAINER_EMA] = "",
    [TRAINER_MODEL] = "model.",
    [TRAINER_EXP_AVG] = "opt.exp_avg.",
    [TRAINER_EXP_AVG_SQ] = "opt.exp_avg_sq.",
};

static const struct safetensor *need(const struct dit_file *file, const char *name, size_t rank)
{
    const struct safetensor *t = safetensors_find(&file->doc, name);
    if (!t)
        error_set(STATUS_DATA, "%s: no tensor %s: these are not the weights of a DiT", file->path,
                  name);
    else if (t->rank != rank) {
        char shape[128];
        error_set(STATUS_DATA, "%s: tensor %s has shape %s, expected %zu dimensions", file->path,
                  name, shape_text(t->shape, t->rank, shape, sizeof shape), rank);
        t = NULL;
    }
    return t;
}

static size_t count_blocks(const struct safetensors *doc)
{
    char name[64];
    for (size_t l = 0;; l++) {
        snprintf(name, sizeof name, "blocks.%zu.attn.qkv.weight", l);
        if (!safetensors_find(doc, name))
            return l;
    }
}

int dit_file_number(const struct dit_file *file, const char *key, uint64_t *number)
{
    const char *text = safetensors_get(&file->doc, key);
    char *end;
    *number = 0;
    if (!text)
        return error_set(STATUS_DATA, "%s: no %s in its metadata", file->path, key);
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value > (1ull << 53))
        return error_set(STATUS_DATA, "%s: metadata %s is \"%s\", expected a whole number",
                         file->path, key, text);
    *number = value;
    return 0;
}

static size_t square_root(size_t n)
{
    size_t root = 0;
    while (root * root < n)
        root++;
    return root * root == n ? root : 0;
}

static int read_config(struct dit_file *file)
{
    const struct safetensor *patch = need(file, "x_embedder.proj.weight", 4);
    const struct safetensor *positions = patch ? need(file, "pos_embed", 3) : NULL;
    const struct safetensor *table =
        positions ? need(file, "y_embedder.embedding_table.weight", 2) : NULL;
    if (!table)
        return -1;
    struct dit_config *c = &file->config;
    size_t tokens = positions->shape[1];
    char text[128];
    c->hidden = patch->shape[0];
    c->channels = patch->shape[1];
    c->patch = patch->shape[2];
    c->classes = table->shape[0] - 1;
    c->depth = count_blocks(&file->doc);
    if (tokens > 1 << 24 || square_root(tokens) == 0)
        return error_set(STATUS_DATA, "%s: pos_embed has %zu positions, expected a square number",
                         file->path, tokens);
    c->input_size = square_root(tokens) * c->patch;
    if (positions->shape[0] != 1 || positions->shape[2] != c->hidden)
        return error_set(STATUS_DATA, "%s: pos_embed has shape %s, expected [1, %zu, %zu]",
                         file->path, shape_text(positions->shape, 3, text, sizeof text), tokens,
                         c->hidden);
    uint64_t heads = c->hidden == 1152 ? 16 : c->hidden / 64;
    if (safetensors_get(&file->doc, "num_heads") && dit_file_number(file, "num_heads", &heads) < 0)
        return -1;
    c->heads = heads;
    if (dit_config_check(c) < 0) // here no option is wrong, but the file
        return error_set(STATUS_DATA, "%s: %s", file->path, error_message());
    return 0;
}

int dit_file_open(struct dit_file *file, const char *path)
{
    *file = (struct dit_file){.path = path};
    if (safetensors_open(&file->doc, path) < 0)
        return -1;
    if (read_config(file) < 0) {
        safetensors_close(&file->doc);
        return -1;
    }
    file->has_training = safetensors_find(&file->doc, "opt.exp_avg.x_embedder.proj.weight") &&
                         safetensors_find(&file->doc, "model.x_embedder.proj.weight");
    return 0;
}

void dit_file_close(struct dit_file *file)
{
    safetensors_close(&file->doc);
}

static int read_param(const struct dit_file *file, const char *prefix,
                      const struct param *param, float *values)
{
    char name[sizeof param->name + 16];
    snprintf(name, sizeof name, "%s%s", prefix, param->name);
    if (safetensors_floats(&file->doc, name, param->shape, param->rank, values) < 0)
        return error_prefix("%s", file->path);
    return 0;
}

static size_t largest_param(const struct layout *layout)
{
    size_t most = 0;
    for (size_t i = 0; i < layout->n_params; i++)
        if (layout->params[i].count > most)
            most = layout->params[i].count;
    return most;
}

int dit_file_load(const struct dit_file *file, enum dit_weights which, struct dit *dit)
{
    const struct layout *layout = dit_get_layout(dit);
    enum trainer_array array =
        which == DIT_WEIGHTS_MODEL && file->has_training ? TRAINER_MODEL : TRAINER_EMA;
    float *values = mem_new(largest_param(layout), sizeof *values);
    int rc = values ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < layout->n_params; i++) {
        rc = read_param(file, prefixes[array], &layout->params[i], values);
        if (rc == 0)
            rc = dit_set_param(dit, &layout->params[i], values);
    }
    free(values);
    return rc;
}

int dit_file_initial_weights(const struct dit_file *file, const struct layout *layout,
                             float *weights, bool *new_classes)
{
    *new_classes = false;
    for (size_t i = 0; i < layout->n_params; i++) {
        const struct param *param = &layout->params[i];
        if (strcmp(param->name, "y_embedder.embedding_table.weight") == 0 &&
            param->shape[0] != file->config.classes + 1) {
            *new_classes = true;
            continue;
        }
        if (read_param(file, "", param, weights + param->offset) < 0)
            return -1;
    }
    return 0;
}

int dit_file_restore(const struct dit_file *file, struct trainer *trainer)
{
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    uint64_t updates;
    if (!file->has_training)
        return error_set(STATUS_DATA, "%s holds weights but no optimizer state to resume from",
                         file->path);
    if (dit_file_number(file, "updates", &updates) < 0)
        return -1;
    float *values = mem_new(largest_param(layout), sizeof *values);
    if (!values)
        return -1;
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        for (size_t i = 0; i < layout->n_params; i++) {
            if (read_param(file, prefixes[array], &layout->params[i], values) < 0) {
                free(values);
                return -1;
            }
            trainer_set(trainer, array, &layout->params[i], values);
        }
    trainer_weights_changed(trainer);
    trainer_set_updates(trainer, updates);
    free(values);
    return 0;
}

// The tensors of a checkpoint in the order of their data: the positions, then array by array.
static struct safetensor *list_tensors(const struct dit_config *c, const struct layout *layout,
                                       char **names, size_t *count)
{
    size_t n = 1 + TRAINER_ARRAYS * layout->n_params, at = 1;
    const size_t name_size = sizeof layout->params->name + 16;
    struct safetensor *tensors = mem_new(n, sizeof *tensors);
    *names = tensors ? mem_new(n, name_size) : NULL;
    if (!*names) {
        free(tensors);
        return NULL;
    }
    tensors[0] = (struct safetensor){
        .name = "pos_embed", .dtype = DTYPE_F32, .rank = 3, .shape = {1, dit_tokens(c), c->hidden}};
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        for (size_t i = 0; i < layout->n_params; i++, at++) {
            const struct param *param = &layout->params[i];
            char *name = *names + at * name_size;
            snprintf(name, name_size, "%s%s", prefixes[array], param->name);
            tensors[at] =
                (struct safetensor){.name = name, .dtype = DTYPE_F32, .rank = param->rank};
            memcpy(tensors[at].shape, param->shape, sizeof param->shape);
        }
    *count = n;
    return tensors;
}

static int write_tensors(struct output *output, struct trainer *trainer, float *values)
{
    const struct dit_config *c = dit_get_config(trainer_model(trainer));
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    dit_position_table(c, values);
    if (output_write(output, values, dit_tokens(c) * c->hidden * sizeof *values) < 0)
        return -1;
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        for (size_t i = 0; i < layout->n_params; i++) {
            trainer_get(trainer, array, &layout->params[i], values);
            if (output_write(output, values, layout->params[i].count * sizeof *values) < 0)
                return -1;
        }
    return 0;
}

static int add_sizes(json_t *metadata, const struct dit_config *c, uint64_t updates)
{
    const struct {
        const char *key;
        uint64_t value;
    } sizes[] = {{"num_heads", c->heads},       {"patch_size", c->patch},
                 {"input_size", c->input_size}, {"in_channels", c->channels},
                 {"hidden_size", c->hidden},    {"depth", c->depth},
                 {"num_classes", c->classes},   {"updates", updates}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        json_t *text = json_sprintf("%llu", (unsigned long long)sizes[i].value);
        if (json_object_set_new(metadata, sizes[i].key, text) < 0)
            return error_set(STATUS_INTERNAL, "no memory for a checkpoint's metadata");
    }
    return 0;
}

int dit_file_save(const char *path, struct trainer *trainer, json_t *metadata)
{
    const struct dit_config *c = dit_get_config(trainer_model(trainer));
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    size_t n, header_size, most = largest_param(layout), positions = dit_tokens(c) * c->hidden;
    char *names = NULL;
    uint8_t *header = NULL;
    float *values = mem_new(most > positions ? most : positions, sizeof *values);
    struct safetensor *tensors = list_tensors(c, layout, &names, &n);
    struct output *output = NULL;
    int rc = -1;
    if (values && tensors && add_sizes(metadata, c, trainer_updates(trainer)) == 0 &&
        safetensors_build_header(tensors, n, metadata, &header, &header_size) == 0 &&
        (output = output_open(path)) && output_write(output, header, header_size) == 0 &&
        write_tensors(output, trainer, values) == 0) {
        rc = output_commit(output);
        output = NULL;
    }
    output_discard(output);
    free(header);
    free(tensors);
    free(names);
    free(values);
    return rc;
}
