// Checkpoints of dit-train, as safetensors. SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/dit-file.h"
#include "formats/safetensors.h"
#include "lib/error.h"
#include "lib/mem.h"

const char *const dit_file_prefixes[TRAINER_ARRAYS] = {
    [TRAINER_EMA] = "",
    [TRAINER_MODEL] = "model.",
    [TRAINER_EXP_AVG] = "opt.exp_avg.",
    [TRAINER_EXP_AVG_SQ] = "opt.exp_avg_sq.",
};

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
            snprintf(name, name_size, "%s%s", dit_file_prefixes[array], param->name);
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
            if (trainer_get(trainer, array, &layout->params[i], values) < 0 ||
                output_write(output, values, layout->params[i].count * sizeof *values) < 0)
                return -1;
        }
    return 0;
}

static int add_number(json_t *metadata, const char *key, uint64_t value)
{
    json_t *text = json_sprintf("%llu", (unsigned long long)value);
    if (json_object_set_new(metadata, key, text) < 0)
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

int dit_file_save(const char *path, struct trainer *trainer, json_t *metadata)
{
    const struct dit_config *c = dit_get_config(trainer_model(trainer));
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    size_t n, header_size, most = layout_largest(layout), positions = dit_tokens(c) * c->hidden;
    char *names = NULL;
    uint8_t *header = NULL;
    float *values = mem_new(most > positions ? most : positions, sizeof *values);
    struct safetensor *tensors = list_tensors(c, layout, &names, &n);
    struct output *output = NULL;
    int rc = -1;
    if (values && tensors && dit_file_add_sizes(metadata, c) == 0 &&
        add_number(metadata, "updates", trainer_updates(trainer)) == 0 &&
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
