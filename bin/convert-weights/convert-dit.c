// Converts a DiT's weights, or a whole training. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/convert-weights/convert.h"
#include "formats/containers/checksum.h"
#include "formats/containers/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/trainer.h"
#include "lib/tool/tool.h"

#define DIT_CLASS "DiTTransformer2DModel"

struct dit_conversion {
    const struct dit_file *file;
    bool all; // the whole training; else:
    enum dit_weights which;
    bool torch, diffusers; // the format and the names of OUT
    struct naming naming;  // of OUT
    size_t *order;         // indices of the parameters, as OUT has them
    float *positions;      // a DiT's table, if it had to be computed
    float updates;         // PyTorch keeps this count as a float
    json_t *metadata;
    struct write_list list;
};

static int choose_which(struct dit_conversion *c, const struct convert_options *options)
{
    const struct dit_file *file = c->file;
    const struct binding *model = &file->arrays[TRAINER_MODEL], *ema = &file->arrays[TRAINER_EMA];
    bool two = model->tensors && ema->tensors && model->tensors[0] != ema->tensors[0];
    c->all =
        options->which ? strcmp(options->which, "all") == 0 : file->has_training && !c->diffusers;
    if (options->which && !c->all && dit_file_parse_which(file, options->which, &c->which) < 0)
        return error_status() == STATUS_USAGE
                   ? error_set(STATUS_USAGE, "%s, or all", error_message())
                   : -1;
    if (c->all && c->diffusers)
        return error_set(STATUS_USAGE, "--which all needs --names published");
    if (c->all && !two && !file->has_training)
        return error_set(STATUS_DATA, "%s holds one set of weights; --which all needs a training",
                         file->path);
    if (!file->classes_said)
        tool_note("%s: its class table has %zu rows; the last one is taken for the null class",
                  file->path, file->config.classes + 1);
    if (c->diffusers && file->config.no_null_class)
        return error_set(STATUS_DATA,
                         "%s has no null class (its class_dropout_prob was 0), which a model of "
                         "diffusers always has",
                         file->path);
    if (c->torch && !c->all && file->config.no_null_class)
        tool_warn("%s has no null class, which a .pt of weights alone can't say: its readers will "
                  "take class %zu for that",
                  file->path, file->config.classes - 1);
    if (c->torch && !c->all && file->objective.kind == OBJECTIVE_FLOW)
        tool_warn("%s was trained by flow matching, which a .pt of weights alone can't say: its "
                  "readers need --objective flow, and its path and prediction",
                  file->path);
    if (two && *file->foreign_optimizer)
        tool_note(
            "%s holds the state of an optimizer that is not dit-train's, which is left out (%s)",
            file->path, file->foreign_optimizer);
    if (two && !file->has_training)
        tool_note("%s holds no optimizer state%s; %s", file->path,
                  *file->foreign_optimizer ? " that can be used" : "",
                  c->all ? "model and ema are written without it"
                         : "--which all would write both model and ema");
    if (c->diffusers && dit_file_has_own_positions(file))
        tool_warn("%s has its own table of positions, for which diffusers has no name: it is left "
                  "out",
                  file->path);
    return 0;
}

static void add_to_order(struct dit_conversion *c, size_t *n, const char *layer)
{
    static const char *const kinds[] = {"weight", "bias"};
    const struct layout *layout = &c->file->layout;
    for (size_t k = 0; k < 2; k++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", layer, kinds[k]);
        const struct param *param = layout_find(layout, name);
        if (param)
            c->order[(*n)++] = (size_t)(param - layout->params);
    }
}

// In PyTorch's files the optimizer's state is numbered in the order of the published model's
// modules, so the parameters have that order. In safetensors they have that of dit-train.
static int choose_order(struct dit_conversion *c)
{
    static const char *const first[] = {"x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2",
                                        "y_embedder.embedding_table"},
                             *const block[] = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2",
                                               "adaLN_modulation.1"},
                             *const last[] = {"final_layer.linear",
                                              "final_layer.adaLN_modulation.1"};
    const struct layout *layout = &c->file->layout;
    size_t n = 0;
    if (!(c->order = mem_new(layout->n_params, sizeof *c->order)))
        return -1;
    if (!c->torch) {
        for (; n < layout->n_params; n++)
            c->order[n] = n;
        return 0;
    }
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        add_to_order(c, &n, first[i]);
    for (size_t l = 0; l < c->file->config.depth; l++)
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            char layer[64];
            snprintf(layer, sizeof layer, "blocks.%zu.%s", l, block[i]);
            add_to_order(c, &n, layer);
        }
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        add_to_order(c, &n, last[i]);
    return 0;
}

// Adds the file's table of positions if it has one of this size, else a DiT's.
static int add_positions(struct dit_conversion *c, int array, const char *prefix)
{
    const struct dit_config *config = &c->file->config;
    const struct weight *positions = c->file->positions[array];
    if (!positions)
        positions = c->file->positions[TRAINER_EMA];
    if (positions)
        return write_list_add(&c->list, prefix, "pos_embed", positions);
    size_t shape[] = {1, dit_tokens(config), config->hidden};
    if (!c->positions) {
        if (!(c->positions = mem_new(shape[1] * shape[2], sizeof *c->positions)))
            return -1;
        dit_position_table(config, c->positions);
    }
    return write_list_add_values(&c->list, prefix, "pos_embed", shape, 3, c->positions);
}

static int add_array(struct dit_conversion *c, int array, const char *prefix)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < c->file->layout.n_params; i++)
        rc = write_list_add_param(&c->list, prefix, &c->naming, &c->file->arrays[array],
                                  c->order[i]);
    return rc;
}

static int add_state(struct dit_conversion *c, int array, const char *prefix)
{
    if (!c->diffusers && add_positions(c, array, prefix) < 0)
        return -1;
    return add_array(c, array, prefix);
}

static int add_torch_training(struct dit_conversion *c)
{
    const struct binding *arrays = c->file->arrays;
    struct write_list *list = &c->list;
    if (add_state(c, TRAINER_MODEL, "model.") < 0 || add_state(c, TRAINER_EMA, "ema.") < 0)
        return -1;
    list->dtype = DTYPE_COUNT; // the optimizer's state keeps its type
    for (size_t i = 0; c->file->has_training && i < c->file->layout.n_params; i++)
        if (write_list_add_values(list, "opt.", "step", NULL, 0, &c->updates) < 0 ||
            write_list_add_param(list, "opt.exp_avg.", &c->naming, &arrays[TRAINER_EXP_AVG],
                                 c->order[i]) < 0 ||
            write_list_add_param(list, "opt.exp_avg_sq.", &c->naming, &arrays[TRAINER_EXP_AVG_SQ],
                                 c->order[i]) < 0)
            return -1;
    return 0;
}

static int set_metadata(json_t *metadata, const char *key, json_t *value)
{
    if (json_object_set_new(metadata, key, value) < 0)
        return error_set(STATUS_INTERNAL, "no memory for the metadata's %s", key);
    return 0;
}

// Says in dit-train's words what a checkpoint of another program says. Its position in the data is
// not known.
static int adopt_checkpoint(struct dit_conversion *c, uint64_t updates)
{
    static const char *const numbers[][2] = {
        {"image_size", "args.image_size"},       {"setting.batch", "args.global_batch_size"},
        {"setting.seed", "args.global_seed"},    {"setting.epochs", "args.epochs"},
        {"setting.log-every", "args.log_every"}, {"setting.save-every", "args.ckpt_every"},
    };
    json_t *metadata = c->metadata;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const char *text = weights_get(&c->file->weights, numbers[i][1]);
        if (text && *text && strspn(text, "0123456789") == strlen(text) &&
            set_metadata(metadata, numbers[i][0], json_string(text)) < 0)
            return -1;
    }
    if (set_metadata(metadata, "kind", json_string("dit-checkpoint")) < 0 ||
        set_metadata(metadata, "step", json_sprintf("%" PRIu64, updates)) < 0 ||
        set_metadata(metadata, "position", json_string("0")) < 0)
        return -1;
    if (c->file->config.no_null_class &&
        set_metadata(metadata, "setting.class-dropout", json_string("0")) < 0)
        return -1;
    // Without a limit dit-train would stop after one pass over a pipe.
    if (!json_object_get(metadata, "setting.epochs") &&
        set_metadata(metadata, "setting.steps", json_sprintf("%d", TRAINER_STEPS_DEFAULT)) < 0)
        return -1;
    tool_note("%s: a training of %" PRIu64
              " updates that does not say how much of the data it has read: dit-train --resume "
              "will begin with the first latent",
              c->file->path, updates);
    return 0;
}

// A .pt holds the first of several averages alone.
static int drop_averages(const struct dit_conversion *c)
{
    const char *decays = weights_get(&c->file->weights, "setting.ema-decay");
    if (c->file->n_more == 0)
        return 0;
    tool_note("%s: a .pt holds one average of the weights: of those with the decays %s it gets the "
              "first (--which takes another)",
              c->file->path, decays ? decays : "in it");
    dit_file_drop_metadata(c->metadata, "averages");
    dit_file_drop_metadata(c->metadata, "setting.ema-power");
    dit_file_drop_metadata(c->metadata, "setting.ema-snapshots");
    return decays ? set_metadata(c->metadata, "setting.ema-decay",
                                 json_sprintf("%.*s", (int)strcspn(decays, ","), decays))
                  : 0;
}

static int make_metadata(struct dit_conversion *c)
{
    const struct dit_file *file = c->file;
    const char *kind = weights_get(&file->weights, "kind");
    uint64_t updates;
    if (!(c->metadata = json_deep_copy(file->weights.metadata)))
        return error_set(STATUS_INTERNAL, "no memory for the metadata");
    dit_file_drop_metadata(c->metadata, "args."); // PyTorch's; what counts is read from the file
    dit_file_drop_metadata(c->metadata, "opt.");
    if (dit_file_add_sizes(c->metadata, &file->config) < 0 ||
        (file->objective.kind == OBJECTIVE_FLOW &&
         dit_objective_save(&file->objective, c->metadata) < 0) ||
        set_metadata(c->metadata, "format", json_string("pt")) < 0)
        return -1;
    if (!c->all || !file->has_training) {
        dit_file_drop_training(c->metadata);
        return 0;
    }
    if (dit_file_updates(file, &updates) < 0 || dit_file_add_updates(c->metadata, updates) < 0)
        return -1;
    c->updates = (float)updates;
    if ((c->torch ? drop_averages(c) : checksum_reserve(c->metadata)) < 0)
        return -1;
    return kind && strcmp(kind, "dit-checkpoint") == 0 ? 0 : adopt_checkpoint(c, updates);
}

static int write_dit(const struct write_list *list, struct output *output, void *user)
{
    const struct dit_conversion *c = user;
    if (!c->torch)
        return write_list_safetensors(list, c->metadata, output);
    if (!c->all)
        return convert_write_state_dict(list, NULL, output);
    return convert_write_training(list, c->file->layout.n_params, &c->file->config,
                                  &c->file->objective, c->metadata, output);
}

// The names of the classes as diffusers has them, by number; NULL without any.
static json_t *make_labels(const struct dit_conversion *c)
{
    const char *text = weights_get(&c->file->weights, "classes");
    bool bounded = text && safetensors_check_values((const uint8_t *)text, strlen(text)) == 0;
    json_t *list = bounded ? json_loads(text, 0, NULL) : NULL, *labels = NULL, *name;
    size_t i;
    if (json_array_size(list) == c->file->config.classes)
        labels = json_object();
    json_array_foreach(list, i, name)
    {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        if (labels)
            json_object_set(labels, key, name);
    }
    json_decref(list);
    return labels;
}

// What diffusers' from_pretrained needs beside the weights. NULL without an error if memory is out.
static json_t *dit_config_json(const struct dit_conversion *c)
{
    const struct dit_config *config = &c->file->config;
    json_t *labels = make_labels(c);
    json_t *json = json_pack(
        "{ss ss ss sb sI sI sI sI sI sI sI sI sf sb sf}", "_class_name", DIT_CLASS, "activation_fn",
        "gelu-approximate", "norm_type", "ada_norm_zero", "attention_bias", 1, "num_layers",
        (json_int_t)config->depth, "num_attention_heads", (json_int_t)config->heads,
        "attention_head_dim", (json_int_t)(config->hidden / config->heads), "in_channels",
        (json_int_t)config->channels, "out_channels", (json_int_t)dit_out_channels(config),
        "patch_size", (json_int_t)config->patch, "sample_size", (json_int_t)config->input_size,
        "num_embeds_ada_norm", (json_int_t)config->classes, "dropout", 0.0,
        "norm_elementwise_affine", 0, "norm_eps", 1e-6);
    if (json && labels)
        json_object_set(json, "id2label", labels);
    json_decref(labels);
    return json;
}

static int convert_open_dit(struct dit_conversion *c, const char *out,
                            const struct convert_options *options)
{
    const struct dit_file *file = c->file;
    if (c->diffusers && convert_check_config(out, DIT_CLASS) < 0)
        return -1;
    if (choose_which(c, options) < 0 || choose_order(c) < 0 || make_metadata(c) < 0 ||
        naming_make(&c->naming, &file->layout, c->diffusers ? NAMING_DIT_DIFFUSERS : NAMING_OWN,
                    file->config.depth) < 0)
        return -1;
    c->list = (struct write_list){.path = file->path, .dtype = options->dtype};
    const struct binding *chosen = dit_file_choose(file, c->which);
    int rc;
    if (!chosen)
        return -1;
    if (!c->all)
        rc = add_state(c, (int)(chosen - file->arrays), "");
    else if (c->torch)
        rc = add_torch_training(c);
    else if ((rc = add_positions(c, TRAINER_EMA, "")) == 0)
        rc = dit_file_list_arrays(&c->list, &c->naming, file->arrays, file->more, file->n_more);
    if (rc < 0 || convert_write(out, &c->list, weights_file_size(&file->weights), write_dit, c) < 0)
        return -1;
    return c->diffusers ? convert_write_config(out, dit_config_json(c)) : 0;
}

int convert_dit(const char *in, const char *out, const struct convert_options *options)
{
    struct dit_file file;
    struct dit_conversion c = {.file = &file,
                               .torch = convert_is_torch(out),
                               .diffusers = options->names == CONVERT_DIFFUSERS};
    if (options->names == CONVERT_LDM)
        return error_set(STATUS_USAGE, "%s is a DiT, for which --names is published or diffusers",
                         in);
    if (dit_file_open(&file, in, &options->hints) < 0)
        return -1;
    int rc = c.diffusers && file.objective.kind == OBJECTIVE_FLOW
                 ? error_set(STATUS_DATA,
                             "%s was trained by flow matching, which diffusers would take for "
                             "diffusion: its --names are published",
                             file.path)
                 : convert_open_dit(&c, out, options);
    write_list_free(&c.list);
    naming_free(&c.naming);
    json_decref(c.metadata);
    free(c.positions);
    free(c.order);
    dit_file_close(&file);
    return rc;
}
