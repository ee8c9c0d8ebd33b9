// Checkpoints of dit-train, as safetensors. SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/checksum.h"
#include "formats/containers/safetensors.h"
#include "formats/weights/dit-file.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

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

static int write_summed(struct output *output, const void *data, size_t size, uint32_t *sum)
{
    *sum = checksum_add(*sum, data, size);
    return output_write(output, data, size);
}

static int write_tensors(struct output *output, const struct dit_source *source, float *values,
                         uint32_t *sum)
{
    const struct dit_config *c = source->config;
    dit_position_table(c, values);
    if (write_summed(output, values, dit_tokens(c) * c->hidden * sizeof *values, sum) < 0)
        return -1;
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        for (size_t i = 0; i < source->layout->n_params; i++) {
            const struct param *param = &source->layout->params[i];
            if (source->get(source->user, array, param, values) < 0 ||
                write_summed(output, values, param->count * sizeof *values, sum) < 0)
                return -1;
        }
    return 0;
}

static int write_all(struct output *output, const struct dit_source *source, const uint8_t *header,
                     size_t header_size, float *values)
{
    char digits[CHECKSUM_DIGITS + 1];
    uint32_t sum = 0;
    if (write_summed(output, header, header_size, &sum) < 0 ||
        write_tensors(output, source, values, &sum) < 0)
        return -1;
    checksum_text(sum, digits);
    return output_write_at(output, digits, CHECKSUM_DIGITS, checksum_find(header, header_size));
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

int dit_file_save(const char *path, const struct dit_source *source, json_t *metadata)
{
    const struct dit_config *c = source->config;
    size_t n, header_size, most = layout_largest(source->layout);
    size_t positions = dit_tokens(c) * c->hidden;
    char *names = NULL;
    uint8_t *header = NULL;
    float *values = mem_new(most > positions ? most : positions, sizeof *values);
    struct safetensor *tensors = list_tensors(c, source->layout, &names, &n);
    struct output *output = NULL;
    int rc = -1;
    if (values && tensors && dit_file_add_sizes(metadata, c) == 0 &&
        add_number(metadata, "updates", source->updates) == 0 && checksum_reserve(metadata) == 0 &&
        safetensors_build_header(tensors, n, metadata, &header, &header_size) == 0 &&
        (output = output_open(path)) &&
        write_all(output, source, header, header_size, values) == 0) {
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

int dit_file_check(const struct dit_file *file)
{
    const struct mapping *mapping = &file->weights.mapping;
    return checksum_check(mapping->data, mapping->size) < 0 ? error_prefix("%s", file->path) : 0;
}
