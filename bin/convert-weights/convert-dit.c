// A DiT's weights and training, converted. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/convert-weights/convert.h"
#include "formats/containers/checksum.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/trainer.h"
#include "lib/tool/tool.h"

struct plan {
    const struct dit_file *file;
    enum convert_which which;
    enum dtype dtype;
    bool torch, diffusers;
    struct naming naming; // of what is written
    size_t *order;        // of the parameters
    float *positions;     // the table of a DiT
    float updates;        // as PyTorch has it
    json_t *metadata;
    struct copies copies;
};

static int choose_which(struct plan *plan, const struct convert_options *options)
{
    const struct dit_file *file = plan->file;
    const struct binding *model = &file->arrays[TRAINER_MODEL], *ema = &file->arrays[TRAINER_EMA];
    bool two = model->tensors && model->tensors[0] != ema->tensors[0];
    int which = options->which;
    if (which < 0)
        which = file->has_training && !plan->diffusers ? CONVERT_ALL : CONVERT_EMA;
    plan->which = (enum convert_which)which;
    if (which == CONVERT_ALL && plan->diffusers)
        return error_set(STATUS_USAGE, "--which all goes with --names published alone");
    if (which == CONVERT_ALL && !two && !file->has_training)
        return error_set(STATUS_DATA,
                         "%s: one set of weights; there is no training for --which all",
                         file->path);
    if (two && !file->has_training)
        tool_note("%s holds no optimizer state; %s", file->path,
                  which == CONVERT_ALL ? "model and ema are written without"
                                       : "--which all would write both model and ema");
    if (plan->diffusers && dit_file_has_own_positions(file))
        tool_warn("%s has a table of positions of its own, for which diffusers has no name: it is "
                  "left out",
                  file->path);
    return which == CONVERT_MODEL && !dit_file_choose(file, DIT_WEIGHTS_MODEL) ? -1 : 0;
}

static void add_to_order(struct plan *plan, size_t *n, const char *layer)
{
    static const char *const kinds[] = {"weight", "bias"};
    const struct layout *layout = &plan->file->layout;
    for (size_t k = 0; k < 2; k++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", layer, kinds[k]);
        const struct param *param = layout_find(layout, name);
        if (param)
            plan->order[(*n)++] = (size_t)(param - layout->params);
    }
}

// PyTorch's files have the order of the published model's modules, which numbers the optimizer's
// state; safetensors has that of dit-train's checkpoints.
static int choose_order(struct plan *plan)
{
    static const char *const first[] = {"x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2",
                                        "y_embedder.embedding_table"},
                             *const block[] = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2",
                                               "adaLN_modulation.1"},
                             *const last[] = {"final_layer.linear",
                                              "final_layer.adaLN_modulation.1"};
    const struct layout *layout = &plan->file->layout;
    size_t n = 0;
    if (!(plan->order = mem_new(layout->n_params, sizeof *plan->order)))
        return -1;
    if (!plan->torch) {
        for (; n < layout->n_params; n++)
            plan->order[n] = n;
        return 0;
    }
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        add_to_order(plan, &n, first[i]);
    for (size_t l = 0; l < plan->file->config.depth; l++)
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            char layer[64];
            snprintf(layer, sizeof layer, "blocks.%zu.%s", l, block[i]);
            add_to_order(plan, &n, layer);
        }
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        add_to_order(plan, &n, last[i]);
    return 0;
}

// The table of positions: that of the file, if it has one of this size, or a DiT's.
static int add_positions(struct plan *plan, int array, const char *prefix)
{
    const struct dit_config *c = &plan->file->config;
    const struct weight *positions = plan->file->positions[array];
    if (!positions)
        positions = plan->file->positions[TRAINER_EMA];
    if (positions)
        return copies_add(&plan->copies, prefix, "pos_embed", positions);
    size_t shape[] = {1, dit_tokens(c), c->hidden};
    if (!plan->positions) {
        if (!(plan->positions = mem_new(shape[1] * shape[2], sizeof *plan->positions)))
            return -1;
        dit_position_table(c, plan->positions);
    }
    return copies_add_values(&plan->copies, prefix, "pos_embed", shape, 3, plan->positions);
}

static int add_array(struct plan *plan, int array, const char *prefix)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->file->layout.n_params; i++)
        rc = copies_add_param(&plan->copies, prefix, &plan->naming, &plan->file->arrays[array],
                              plan->order[i]);
    return rc;
}

static int add_state(struct plan *plan, int array, const char *prefix)
{
    if (!plan->diffusers && add_positions(plan, array, prefix) < 0)
        return -1;
    return add_array(plan, array, prefix);
}

// In the order of a checkpoint of dit-train.
static int add_checkpoint(struct plan *plan)
{
    if (add_positions(plan, TRAINER_EMA, "") < 0)
        return -1;
    for (int array = 0; array < TRAINER_ARRAYS; array++) {
        if (array == TRAINER_EXP_AVG)
            plan->copies.dtype = DTYPE_COUNT; // the optimizer's state keeps its type
        if (plan->file->arrays[array].tensors &&
            add_array(plan, array, dit_file_prefixes[array]) < 0)
            return -1;
    }
    return 0;
}

static int add_torch_training(struct plan *plan)
{
    const struct binding *arrays = plan->file->arrays;
    struct copies *copies = &plan->copies;
    if (add_state(plan, TRAINER_MODEL, "model.") < 0 || add_state(plan, TRAINER_EMA, "ema.") < 0)
        return -1;
    copies->dtype = DTYPE_COUNT;
    for (size_t i = 0; plan->file->has_training && i < plan->file->layout.n_params; i++)
        if (copies_add_values(copies, "opt.", "step", NULL, 0, &plan->updates) < 0 ||
            copies_add_param(copies, "opt.exp_avg.", &plan->naming, &arrays[TRAINER_EXP_AVG],
                             plan->order[i]) < 0 ||
            copies_add_param(copies, "opt.exp_avg_sq.", &plan->naming, &arrays[TRAINER_EXP_AVG_SQ],
                             plan->order[i]) < 0)
            return -1;
    return 0;
}

static int set(json_t *metadata, const char *key, json_t *value)
{
    if (json_object_set_new(metadata, key, value) < 0)
        return error_set(STATUS_INTERNAL, "no memory for the metadata's %s", key);
    return 0;
}

static void drop(json_t *metadata, const char *start)
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

// What a checkpoint of another program says, in dit-train's words. Its place in the data is lost.
static int adopt(struct plan *plan, uint64_t updates)
{
    static const char *const numbers[][2] = {
        {"image_size", "args.image_size"},       {"setting.batch", "args.global_batch_size"},
        {"setting.seed", "args.global_seed"},    {"setting.epochs", "args.epochs"},
        {"setting.log-every", "args.log_every"}, {"setting.save-every", "args.ckpt_every"},
    };
    json_t *metadata = plan->metadata;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const char *text = weights_get(&plan->file->weights, numbers[i][1]);
        if (text && *text && strspn(text, "0123456789") == strlen(text) &&
            set(metadata, numbers[i][0], json_string(text)) < 0)
            return -1;
    }
    if (set(metadata, "kind", json_string("dit-checkpoint")) < 0 ||
        set(metadata, "step", json_sprintf("%" PRIu64, updates)) < 0 ||
        set(metadata, "position", json_string("0")) < 0)
        return -1;
    // Without a limit it would be one pass over a pipe.
    if (!json_object_get(metadata, "setting.epochs") &&
        set(metadata, "setting.steps", json_sprintf("%d", TRAINER_STEPS_DEFAULT)) < 0)
        return -1;
    tool_note("%s: a training of %" PRIu64 " updates that does not say where in the data it was: "
              "dit-train --resume begins at the first latent",
              plan->file->path, updates);
    return 0;
}

static int make_metadata(struct plan *plan)
{
    const struct dit_file *file = plan->file;
    const char *kind = weights_get(&file->weights, "kind");
    uint64_t updates;
    if (!(plan->metadata = json_deep_copy(file->weights.metadata)))
        return error_set(STATUS_INTERNAL, "no memory for the metadata");
    drop(plan->metadata, "args."); // PyTorch's, read by other keys
    drop(plan->metadata, "opt.");
    if (dit_file_add_sizes(plan->metadata, &file->config) < 0 ||
        set(plan->metadata, "format", json_string("pt")) < 0)
        return -1;
    if (plan->which != CONVERT_ALL || !file->has_training) {
        static const char *const of_training[] = {"kind",        "step",    "updates",   "position",
                                                  "fingerprint", "shards",  "since_log", "ranks",
                                                  CHECKSUM_KEY,  "setting."};
        for (size_t i = 0; i < sizeof of_training / sizeof *of_training; i++)
            drop(plan->metadata, of_training[i]);
        return 0;
    }
    if (dit_file_updates(file, &updates) < 0 ||
        set(plan->metadata, "updates", json_sprintf("%" PRIu64, updates)) < 0)
        return -1;
    plan->updates = (float)updates;
    if (!plan->torch && checksum_reserve(plan->metadata) < 0)
        return -1;
    return kind && strcmp(kind, "dit-checkpoint") == 0 ? 0 : adopt(plan, updates);
}

static int write_dit(const struct copies *copies, struct output *output, void *user)
{
    const struct plan *plan = user;
    if (!plan->torch)
        return copies_write_safetensors(copies, plan->metadata, output);
    if (plan->which != CONVERT_ALL)
        return convert_write_state_dict(copies, NULL, output);
    return convert_write_training(copies, plan->file->layout.n_params, &plan->file->config,
                                  plan->metadata, output);
}

static int run(struct plan *plan, const char *out, const struct convert_options *options)
{
    const struct dit_file *file = plan->file;
    if (choose_which(plan, options) < 0 || choose_order(plan) < 0 || make_metadata(plan) < 0 ||
        naming_make(&plan->naming, &file->layout,
                    plan->diffusers ? NAMING_DIT_DIFFUSERS : NAMING_OWN, file->config.depth) < 0)
        return -1;
    plan->copies = (struct copies){.path = file->path, .dtype = options->dtype};
    const struct binding *chosen =
        dit_file_choose(file, plan->which == CONVERT_MODEL ? DIT_WEIGHTS_MODEL : DIT_WEIGHTS_EMA);
    int rc = plan->which != CONVERT_ALL ? add_state(plan, (int)(chosen - file->arrays), "")
             : plan->torch              ? add_torch_training(plan)
                                        : add_checkpoint(plan);
    return rc == 0 ? convert_write(out, &plan->copies, write_dit, plan) : -1;
}

int convert_dit(const char *in, const char *out, const struct convert_options *options)
{
    struct dit_file file;
    struct plan plan = {.file = &file,
                        .torch = convert_is_torch(out),
                        .diffusers = options->names == CONVERT_DIFFUSERS};
    if (options->names == CONVERT_LDM)
        return error_set(STATUS_USAGE, "%s is a DiT: its --names are published or diffusers", in);
    if (dit_file_open(&file, in, &options->hints) < 0)
        return -1;
    int rc = run(&plan, out, options);
    copies_free(&plan.copies);
    naming_free(&plan.naming);
    json_decref(plan.metadata);
    free(plan.positions);
    free(plan.order);
    dit_file_close(&file);
    return rc;
}
