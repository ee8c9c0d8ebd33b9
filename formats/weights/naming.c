// The table of names, and the pattern language that it is written in. SPDX-License-Identifier: MIT
#include "formats/weights/naming.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

// A layer's name in a layout and in a file, without .weight and .bias. In patterns # is a number
// and @ a word without dots, the same on both sides. ~ is such a number, but counted from the last
// block; * stands for every block, as the file holds a copy in each.
struct rule {
    enum naming_style style;
    const char *own, *theirs;
    size_t part, parts; // which of how many equal parts of the rows; parts 0: all rows
    size_t ones;        // dimensions of size 1 after the weight's shape
};

static const struct rule rules[] = {
    {NAMING_DIT_DIFFUSERS, "x_embedder.proj", "pos_embed.proj", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "t_embedder.mlp.0",
     "transformer_blocks.*.norm1.emb.timestep_embedder.linear_1", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "t_embedder.mlp.2",
     "transformer_blocks.*.norm1.emb.timestep_embedder.linear_2", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "y_embedder.embedding_table",
     "transformer_blocks.*.norm1.emb.class_embedder.embedding_table", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "blocks.#.adaLN_modulation.1", "transformer_blocks.#.norm1.linear", 0, 0,
     0},
    {NAMING_DIT_DIFFUSERS, "blocks.#.attn.qkv", "transformer_blocks.#.attn1.to_q", 0, 3, 0},
    {NAMING_DIT_DIFFUSERS, "blocks.#.attn.qkv", "transformer_blocks.#.attn1.to_k", 1, 3, 0},
    {NAMING_DIT_DIFFUSERS, "blocks.#.attn.qkv", "transformer_blocks.#.attn1.to_v", 2, 3, 0},
    {NAMING_DIT_DIFFUSERS, "blocks.#.attn.proj", "transformer_blocks.#.attn1.to_out.0", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "blocks.#.mlp.fc1", "transformer_blocks.#.ff.net.0.proj", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "blocks.#.mlp.fc2", "transformer_blocks.#.ff.net.2", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "final_layer.adaLN_modulation.1", "proj_out_1", 0, 0, 0},
    {NAMING_DIT_DIFFUSERS, "final_layer.linear", "proj_out_2", 0, 0, 0},

    {NAMING_KL_OLD, "@.mid_block.attentions.0.to_q", "@.mid_block.attentions.0.query", 0, 0, 0},
    {NAMING_KL_OLD, "@.mid_block.attentions.0.to_k", "@.mid_block.attentions.0.key", 0, 0, 0},
    {NAMING_KL_OLD, "@.mid_block.attentions.0.to_v", "@.mid_block.attentions.0.value", 0, 0, 0},
    {NAMING_KL_OLD, "@.mid_block.attentions.0.to_out.0", "@.mid_block.attentions.0.proj_attn", 0, 0,
     0},

    {NAMING_KL_LDM, "encoder.down_blocks.#.resnets.#.conv_shortcut",
     "encoder.down.#.block.#.nin_shortcut", 0, 0, 0},
    {NAMING_KL_LDM, "encoder.down_blocks.#.resnets.#.@", "encoder.down.#.block.#.@", 0, 0, 0},
    {NAMING_KL_LDM, "encoder.down_blocks.#.downsamplers.0.conv", "encoder.down.#.downsample.conv",
     0, 0, 0},
    {NAMING_KL_LDM, "decoder.up_blocks.#.resnets.#.conv_shortcut",
     "decoder.up.~.block.#.nin_shortcut", 0, 0, 0},
    {NAMING_KL_LDM, "decoder.up_blocks.#.resnets.#.@", "decoder.up.~.block.#.@", 0, 0, 0},
    {NAMING_KL_LDM, "decoder.up_blocks.#.upsamplers.0.conv", "decoder.up.~.upsample.conv", 0, 0, 0},
    {NAMING_KL_LDM, "@.mid_block.resnets.0.@", "@.mid.block_1.@", 0, 0, 0},
    {NAMING_KL_LDM, "@.mid_block.resnets.1.@", "@.mid.block_2.@", 0, 0, 0},
    {NAMING_KL_LDM, "@.mid_block.attentions.0.group_norm", "@.mid.attn_1.norm", 0, 0, 0},
    {NAMING_KL_LDM, "@.mid_block.attentions.0.to_q", "@.mid.attn_1.q", 0, 0, 2},
    {NAMING_KL_LDM, "@.mid_block.attentions.0.to_k", "@.mid.attn_1.k", 0, 0, 2},
    {NAMING_KL_LDM, "@.mid_block.attentions.0.to_v", "@.mid.attn_1.v", 0, 0, 2},
    {NAMING_KL_LDM, "@.mid_block.attentions.0.to_out.0", "@.mid.attn_1.proj_out", 0, 0, 2},
    {NAMING_KL_LDM, "@.conv_norm_out", "@.norm_out", 0, 0, 0},
};

// What # and @ stand for in a name.
#define CAPTURES 3
struct captures {
    size_t n;
    char text[CAPTURES][32];
};

// If the name is the pattern and ".weight" or ".bias", returns the length without that; else 0.
static size_t match(const char *pattern, const char *name, struct captures *captures)
{
    const char *at = name;
    captures->n = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#' && *pattern != '@') {
            if (*at++ != *pattern)
                return 0;
            continue;
        }
        size_t length = strspn(at, "0123456789");
        if (*pattern == '@')
            length = strcspn(at, ".");
        assert(captures->n < CAPTURES);
        if (length == 0 || length >= sizeof *captures->text)
            return 0;
        snprintf(captures->text[captures->n++], sizeof *captures->text, "%.*s", (int)length, at);
        at += length;
    }
    return strcmp(at, ".weight") == 0 || strcmp(at, ".bias") == 0 ? (size_t)(at - name) : 0;
}

// Fills the captures into the pattern and appends the suffix.
static void expand(const char *pattern, const struct captures *captures, size_t block,
                   size_t blocks, const char *suffix, char name[96])
{
    size_t used = 0, length = 0;
    for (; *pattern; pattern++) {
        char piece[32] = {*pattern};
        if (*pattern == '#' || *pattern == '@')
            strcpy(piece, captures->text[used++]);
        else if (*pattern == '~')
            snprintf(piece, sizeof piece, "%zu",
                     blocks - 1 - strtoul(captures->text[used++], NULL, 10));
        else if (*pattern == '*')
            snprintf(piece, sizeof piece, "%zu", block);
        length += (size_t)snprintf(name + length, 96 - length, "%s", piece);
        assert(length < 96);
    }
    snprintf(name + length, 96 - length, "%s", suffix);
}

static const struct rule *find_rule(enum naming_style style, const char *name,
                                    struct captures *captures, size_t *length)
{
    for (const struct rule *rule = rules; rule < rules + sizeof rules / sizeof *rules; rule++)
        if (rule->style == style && (*length = match(rule->own, name, captures)))
            return rule;
    return NULL;
}

void naming_translate(enum naming_style style, const char *param, size_t blocks, char name[96])
{
    struct captures captures;
    size_t length;
    const struct rule *rule = find_rule(style, param, &captures, &length);
    if (rule)
        expand(rule->theirs, &captures, 0, blocks, param + length, name);
    else
        snprintf(name, 96, "%s", param);
}

static struct name_part *add_part(struct naming *naming, size_t param)
{
    if (mem_grow(&naming->parts, naming->n, 1, sizeof *naming->parts) < 0)
        return NULL;
    struct name_part *part = &naming->parts[naming->n++];
    *part = (struct name_part){.param = param, .rows = naming->layout->params[param].shape[0]};
    return part;
}

static int add_param(struct naming *naming, enum naming_style style, size_t i, size_t blocks)
{
    const char *name = naming->layout->params[i].name;
    struct captures captures;
    size_t length;
    const struct rule *rule = find_rule(style, name, &captures, &length);
    if (!rule) {
        struct name_part *part = add_part(naming, i);
        if (!part)
            return -1;
        snprintf(part->name, sizeof part->name, "%s", name);
        return 0;
    }
    size_t parts = rule->parts ? rule->parts : 1, copies = strchr(rule->theirs, '*') ? blocks : 1;
    for (size_t n = 0; n < parts * copies; n++) {
        struct name_part *part = add_part(naming, i);
        if (!part)
            return -1;
        part->rows /= parts;
        part->row = n / copies * part->rows;
        part->ones = strcmp(name + length, ".weight") == 0 ? rule->ones : 0;
        expand(rule[n / copies].theirs, &captures, n % copies, blocks, name + length, part->name);
    }
    return 0;
}

int naming_make(struct naming *naming, const struct layout *layout, enum naming_style style,
                size_t blocks)
{
    *naming = (struct naming){.layout = layout};
    for (size_t i = 0; i < layout->n_params; i++)
        if (add_param(naming, style, i, blocks) < 0) {
            naming_free(naming);
            return -1;
        }
    return 0;
}

void naming_free(struct naming *naming)
{
    free(naming->parts);
    *naming = (struct naming){0};
}

size_t naming_part_shape(const struct naming *naming, const struct name_part *part,
                         size_t shape[TENSOR_RANK_MAX])
{
    const struct param *param = &naming->layout->params[part->param];
    for (size_t i = 0; i < param->rank; i++)
        shape[i] = i ? param->shape[i] : part->rows;
    for (size_t i = 0; i < part->ones; i++)
        shape[param->rank + i] = 1;
    return param->rank + part->ones;
}

static size_t rank_without_ones(const size_t *shape, size_t rank)
{
    while (rank > 1 && shape[rank - 1] == 1)
        rank--;
    return rank;
}

static bool same_shape(const struct weight *tensor, const size_t *shape, size_t rank)
{
    size_t found = rank_without_ones(tensor->shape, tensor->rank);
    rank = rank_without_ones(shape, rank);
    return found == rank && memcmp(tensor->shape, shape, rank * sizeof *shape) == 0;
}

static int bind_part(struct binding *binding, size_t i, const char *prefix)
{
    const struct weights *file = binding->file;
    const struct name_part *part = &binding->naming->parts[i];
    size_t shape[TENSOR_RANK_MAX], rank = naming_part_shape(binding->naming, part, shape);
    char name[256], expected[128], found[128];
    snprintf(name, sizeof name, "%s%s", prefix, part->name);
    const struct weight *tensor = binding->tensors[i] = weights_find(file, name);
    shape_text(shape, rank, expected, sizeof expected);
    const char *type = weights_unsupported(file, name);
    if (!tensor && type)
        return error_set(STATUS_DATA, "%s: tensor %s is of type %s, which is not supported",
                         file->path, name, type);
    if (!tensor)
        return error_set(STATUS_DATA, "%s: no tensor %s; expected, with shape %s", file->path, name,
                         expected);
    if (!same_shape(tensor, shape, rank))
        return error_set(STATUS_DATA, "%s: tensor %s has shape %s, expected %s", file->path, name,
                         shape_text(tensor->shape, tensor->rank, found, sizeof found), expected);
    return 0;
}

static int compare_part_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_ignored(const char *name, const char *const *ignored)
{
    for (; *ignored; ignored++)
        if (strncmp(name, *ignored, strlen(*ignored)) == 0)
            return true;
    return false;
}

// Refuses a tensor that has no place in the model.
static int check_extra(const struct binding *binding, const char *prefix,
                       const char *const *ignored)
{
    const struct naming *naming = binding->naming;
    const struct weights *file = binding->file;
    const char **names = mem_new(naming->n, sizeof *names);
    int rc = names ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < naming->n; i++)
        names[i] = naming->parts[i].name;
    if (rc == 0)
        qsort(names, naming->n, sizeof *names, compare_part_names);
    for (size_t i = 0; rc == 0 && i < file->n_weights; i++) {
        const char *name = file->all[i].name;
        if (strncmp(name, prefix, strlen(prefix)) != 0)
            continue;
        name += strlen(prefix);
        if (!is_ignored(name, ignored) &&
            !bsearch(&name, names, naming->n, sizeof *names, compare_part_names))
            rc = error_set(STATUS_DATA,
                           "%s: tensor %s%s does not belong to this model, which has %zu tensors "
                           "by its other weights",
                           file->path, prefix, name, naming->n);
    }
    free(names);
    return rc;
}

int binding_make(struct binding *binding, const struct naming *naming, const struct weights *file,
                 const char *prefix, const char *const *ignored)
{
    *binding = (struct binding){.naming = naming, .file = file};
    int rc = (binding->tensors = mem_new(naming->n, sizeof *binding->tensors)) ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < naming->n; i++)
        rc = bind_part(binding, i, prefix);
    if (rc == 0)
        rc = check_extra(binding, prefix, ignored);
    if (rc < 0)
        binding_free(binding);
    return rc;
}

void binding_free(struct binding *binding)
{
    free(binding->tensors);
    *binding = (struct binding){0};
}

void naming_find_parts(const struct naming *naming, size_t i, size_t *first, size_t *end)
{
    size_t low = 0, high = naming->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (naming->parts[middle].param < i)
            low = middle + 1;
        else
            high = middle;
    }
    *first = *end = low;
    while (*end < naming->n && naming->parts[*end].param == i)
        ++*end;
}

static int read_part(const struct binding *binding, size_t i, float *values)
{
    const struct name_part *part = &binding->naming->parts[i];
    if (weight_read_floats(binding->tensors[i], 0, part->rows, values) < 0)
        return error_prefix("%s", binding->file->path);
    return 0;
}

// Compares a copy with the one before it, which is in values.
static int check_copy(const struct binding *binding, size_t i, const float *values)
{
    const struct name_part *part = &binding->naming->parts[i];
    size_t n = weight_count(binding->tensors[i]);
    float *copy = mem_new(n, sizeof *copy);
    int rc = copy ? read_part(binding, i, copy) : -1;
    if (rc == 0 && memcmp(copy, values, n * sizeof *copy) != 0)
        rc = error_set(STATUS_DATA,
                       "%s: tensor %s differs from that of the block before it; a DiT has one for "
                       "all blocks",
                       binding->file->path, part->name);
    free(copy);
    return rc;
}

int binding_read(const struct binding *binding, size_t i, float *values)
{
    const struct naming *naming = binding->naming;
    const struct param *param = &naming->layout->params[i];
    size_t first, end, row_size = param->count / param->shape[0];
    naming_find_parts(naming, i, &first, &end);
    for (size_t p = first; p < end; p++) {
        const struct name_part *part = &naming->parts[p];
        float *to = values + part->row * row_size;
        bool copy = p > first && part->row == part[-1].row;
        if ((copy ? check_copy(binding, p, to) : read_part(binding, p, to)) < 0)
            return -1;
    }
    return 0;
}

int binding_in_place(const struct binding *binding, size_t i, const float **values)
{
    size_t first, end;
    naming_find_parts(binding->naming, i, &first, &end);
    *values = end - first == 1 ? weight_in_place(binding->tensors[first]) : NULL;
    return *values && weight_check(binding->tensors[first]) < 0
               ? error_prefix("%s", binding->file->path)
               : 0;
}
