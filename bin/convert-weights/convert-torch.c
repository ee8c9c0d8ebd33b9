// Writes converted weights for PyTorch, as DiT's and fast-DiT's programs load them.
// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/convert-weights/convert.h"
#include "formats/weights/torch-write.h"
#include "lib/model/trainer.h"
#include "lib/tool/tool.h"

static void put_tensor(struct torch_writer *torch, const struct write_entry *entry)
{
    torch_tensor(torch, entry->dtype, entry->shape, entry->rank);
}

// Puts tensors first .. end - 1 as a state dict, whose keys leave out the first `skip` characters.
static void put_state_dict(struct torch_writer *torch, const struct write_list *list, size_t first,
                           size_t end, size_t skip)
{
    torch_begin(torch, TORCH_ORDERED_DICT);
    for (size_t i = first; i < end; i++) {
        torch_text(torch, list->entries[i].name + skip);
        put_tensor(torch, &list->entries[i]);
    }
    torch_end(torch);
}

static int write_tensor_data(void *torch, const void *data, size_t size)
{
    return torch_write_data(torch, data, size);
}

// Writes the value and what follows it in the file: the tensors.
static int write_archive(struct torch_writer *torch, const struct write_list *list)
{
    int rc = torch_end_value(torch);
    for (size_t i = 0; rc == 0 && i < list->n; i++) {
        if (torch_start_data(torch) < 0 || write_list_copy(list, i, write_tensor_data, torch) < 0)
            return -1;
        rc = torch_end_data(torch);
        list->progress(1);
    }
    return rc == 0 ? torch_finish(torch) : -1;
}

int convert_write_state_dict(const struct write_list *list, const char *wrapper,
                             struct output *output)
{
    struct torch_writer *torch = torch_new(output);
    if (!torch)
        return -1;
    if (wrapper) {
        torch_begin(torch, TORCH_DICT);
        torch_text(torch, wrapper);
    }
    put_state_dict(torch, list, 0, list->n, 0);
    if (wrapper)
        torch_end(torch);
    int rc = write_archive(torch, list);
    torch_free(torch);
    return rc;
}

static const char *get_text(const json_t *metadata, const char *key)
{
    return json_string_value(json_object_get(metadata, key));
}

static double get_number(const json_t *metadata, const char *key, double otherwise)
{
    const char *text = get_text(metadata, key);
    return text ? strtod(text, NULL) : otherwise;
}

static void put_key_bool(struct torch_writer *torch, const char *key, bool value)
{
    torch_text(torch, key);
    torch_bool(torch, value);
}

static void put_key_real(struct torch_writer *torch, const char *key, double value)
{
    torch_text(torch, key);
    torch_real(torch, value);
}

static void put_key_integer(struct torch_writer *torch, const char *key, int64_t value)
{
    torch_text(torch, key);
    torch_integer(torch, value);
}

// Puts the settings of torch.optim.AdamW. Its parameter 0 is pos_embed, which is not trained.
static void put_param_group(struct torch_writer *torch, size_t n_params, const json_t *metadata)
{
    const struct trainer_settings *defaults = &trainer_defaults;
    torch_begin(torch, TORCH_DICT);
    put_key_real(torch, "lr", get_number(metadata, "setting.lr", defaults->lr));
    torch_text(torch, "betas");
    torch_begin(torch, TORCH_TUPLE);
    torch_real(torch, get_number(metadata, "setting.beta1", defaults->beta1));
    torch_real(torch, get_number(metadata, "setting.beta2", defaults->beta2));
    torch_end(torch);
    put_key_real(torch, "eps", get_number(metadata, "setting.eps", defaults->eps));
    put_key_real(torch, "weight_decay",
                 get_number(metadata, "setting.weight-decay", defaults->weight_decay));
    put_key_bool(torch, "amsgrad", false);
    put_key_bool(torch, "maximize", false);
    torch_text(torch, "foreach");
    torch_none(torch);
    put_key_bool(torch, "capturable", false);
    put_key_bool(torch, "differentiable", false);
    torch_text(torch, "fused");
    torch_none(torch);
    put_key_bool(torch, "decoupled_weight_decay", true);
    torch_text(torch, "params");
    torch_begin(torch, TORCH_LIST);
    for (size_t i = 0; i <= n_params; i++)
        torch_integer(torch, (int64_t)i);
    torch_end(torch);
    torch_end(torch);
}

// Puts the optimizer's state_dict(). The list has three tensors for each parameter from `first` on,
// or none.
static void put_optimizer(struct torch_writer *torch, const struct write_list *list, size_t first,
                          size_t n_params, const json_t *metadata)
{
    torch_begin(torch, TORCH_DICT);
    torch_text(torch, "state");
    torch_begin(torch, TORCH_DICT);
    for (size_t at = first; at < list->n; at += 3) {
        torch_integer(torch, (int64_t)((at - first) / 3 + 1));
        torch_begin(torch, TORCH_DICT);
        torch_text(torch, "step");
        put_tensor(torch, &list->entries[at]);
        torch_text(torch, "exp_avg");
        put_tensor(torch, &list->entries[at + 1]);
        torch_text(torch, "exp_avg_sq");
        put_tensor(torch, &list->entries[at + 2]);
        torch_end(torch);
    }
    torch_end(torch);
    torch_text(torch, "param_groups");
    torch_begin(torch, TORCH_LIST);
    put_param_group(torch, n_params, metadata);
    torch_end(torch);
    torch_end(torch);
}

// Puts the names that SiT's programs, or REPA's where time runs to noise, have for the objective.
static void put_flow(struct torch_writer *torch, const struct objective *objective)
{
    static const char *const sit_paths[] = {"", "Linear", "GVP", "VP"};
    static const char *const predictions[] = {"", "velocity", "noise", "score"};
    const bool repa = objective->time == FLOW_TIME_NOISE;
    torch_text(torch, "path_type");
    torch_text(torch, repa ? (objective->path == FLOW_GVP ? "cosine" : "linear")
                           : sit_paths[objective->path]);
    torch_text(torch, "prediction");
    torch_text(torch, repa ? "v" : predictions[objective->prediction]);
    torch_text(torch, "loss_weight");
    torch_none(torch);
}

// Puts those arguments of train.py that people's scripts read.
static void put_args(struct torch_writer *torch, const struct dit_config *config,
                     const struct objective *objective, const json_t *metadata)
{
    const struct {
        const char *theirs, *ours;
        double otherwise; // a default; below 0 leaves it out
    } numbers[] = {
        {"image_size", "image_size", 8 * (double)config->input_size},
        {"num_classes", "num_classes", (double)config->classes},
        {"global_batch_size", "setting.batch", -1},
        {"global_seed", "setting.seed", -1},
    };
    char model[96];
    dit_config_text(config, model, sizeof model);
    if (objective->kind == OBJECTIVE_FLOW)
        memcpy(model, "SiT", 3);
    torch_begin(torch, TORCH_DICT);
    if (strchr(model, '/')) { // a published model's name
        torch_text(torch, "model");
        torch_text(torch, model);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value = get_number(metadata, numbers[i].ours, numbers[i].otherwise);
        if (value >= 0 && value < 0x1p53)
            put_key_integer(torch, numbers[i].theirs, (int64_t)value);
    }
    if (objective->kind == OBJECTIVE_FLOW)
        put_flow(torch, objective);
    if (!config->learn_sigma)
        put_key_bool(torch, "learn_sigma", false);
    torch_end(torch);
}

static void put_metadata(struct torch_writer *torch, const json_t *metadata)
{
    const char *key;
    json_t *value;
    torch_begin(torch, TORCH_DICT);
    json_object_foreach((json_t *)metadata, key, value)
    {
        torch_text(torch, key);
        torch_text(torch, json_string_value(value));
    }
    torch_end(torch);
}

int convert_write_training(const struct write_list *list, size_t n_params,
                           const struct dit_config *config, const struct objective *objective,
                           const json_t *metadata, struct output *output)
{
    struct torch_writer *torch = torch_new(output);
    size_t each = 1 + n_params; // tensors of a state dict, with pos_embed
    if (!torch)
        return -1;
    torch_begin(torch, TORCH_DICT);
    torch_text(torch, "model");
    put_state_dict(torch, list, 0, each, strlen("model."));
    torch_text(torch, "ema");
    put_state_dict(torch, list, each, 2 * each, strlen("ema."));
    torch_text(torch, "opt");
    put_optimizer(torch, list, 2 * each, n_params, metadata);
    torch_text(torch, "args");
    put_args(torch, config, objective, metadata);
    torch_text(torch, "metadata");
    put_metadata(torch, metadata);
    torch_end(torch);
    int rc = write_archive(torch, list);
    torch_free(torch);
    return rc;
}
