// What is trained, how it fits the memory, and what config.json says of it.
// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "bin/dit-train/description.h"
#include "bin/dit-train/training.h"

#define ACTIVATIONS_MAX ((size_t)2 << 30) // bytes

// The number of classes: the option's, on resuming the checkpoint's, else what the data names, else
// that of --init's file, else ImageNet's. Data without labels has none.
static size_t choose_classes(const struct training *t, const struct description *data)
{
    if (t->options->classes)
        return (size_t)t->options->classes;
    if (t->resumed)
        return t->source.config.classes;
    json_t *names = description_classes(data);
    size_t n = json_array_size(names);
    bool known = names || schema_find(latents_schema(t->latents), "label") < 0;
    json_decref(names);
    return known ? n : t->source.path ? t->source.config.classes : 1000;
}

// As in DiT's own program, a training that drops no labels has no null class. Fine-tuning keeps
// that of the weights it begins with.
static int choose_null_class(const struct training *t, struct dit_config *config)
{
    const double dropout = t->options->class_dropout;
    const bool had = t->source.path && !config->no_null_class;
    if (!t->resumed)
        config->no_null_class = !had && config->classes > 0 && dropout == 0;
    else if (!had && dropout > 0)
        return error_set(STATUS_USAGE,
                         "--class-dropout %g needs a null class, and %s was trained without one",
                         dropout, t->source.path);
    return 0;
}

// Puts the sizes that options give in place of others.
static int apply_sizes(const struct train_options *o, struct dit_config *config)
{
    if (o->model && dit_config_named(config, o->model) < 0)
        return -1;
    config->depth = o->depth ? (size_t)o->depth : config->depth;
    config->hidden = o->hidden ? (size_t)o->hidden : config->hidden;
    config->heads = o->heads ? (size_t)o->heads : config->heads;
    config->patch = o->patch ? (size_t)o->patch : config->patch;
    return 0;
}

// Compares the weights to start from with what options and data ask for. A checkpoint that is
// resumed must agree in all. Fine-tuning may be for other classes and another size of image, and
// goes on with latents of another autoencoder, which is more to learn.
static int compare_source(const struct training *t, const struct dit_config *asked,
                          const struct description *data)
{
    const struct description source = description_of_weights(&t->source);
    struct description options = {"the options", *asked, NULL}, latents = *data;
    if (!t->resumed) {
        options.sizes.classes = source.sizes.classes;
        options.sizes.no_null_class = source.sizes.no_null_class;
        latents.sizes.input_size = source.sizes.input_size;
    }
    if (description_compare_sizes(&source, &options) < 0)
        return -1;
    if (t->resumed)
        return description_compare(&source, &latents);
    if (description_compare_sizes(&source, &latents) < 0)
        return -1;
    if (description_compare_autoencoders(&source, &latents) < 0)
        tool_warn("%s", error_message());
    return 0;
}

int training_choose_config(const struct training *t, struct dit_config *config)
{
    const struct train_options *o = t->options;
    struct description data;
    if (t->source.path)
        *config = t->source.config;
    else if (dit_config_named(config, "DiT-S/2") < 0)
        return -1;
    else
        config->learn_sigma = t->settings.loss.objective.kind != OBJECTIVE_FLOW;
    if (description_of_latents(&data, "the latents", t->latents, config) < 0 ||
        apply_sizes(o, config) < 0)
        return -1;
    config->classes = choose_classes(t, &data);
    if (choose_null_class(t, config) < 0 ||
        (t->source.path && compare_source(t, config, &data) < 0))
        return -1;
    config->channels = data.sizes.channels;
    config->input_size = data.sizes.input_size;
    return dit_config_check(config);
}

// The samples of a rank; the others have as many or one less.
static size_t largest_share(const struct training *t)
{
    return share_of(t->settings.batch, 0, ranks_size(t->ranks)).count;
}

// The last bits of the weights depend on the micro-batch, so it must not depend on the machine's
// memory: it is the largest whose activations stay under 2 GiB.
static void plan_on_cpu(struct training *t, const struct dit_config *config)
{
    struct trainer_settings *s = &t->settings;
    size_t one = dit_memory_needed(t->device, config, 1, s->mode);
    size_t each = dit_memory_needed(t->device, config, 2, s->mode) - one, n = largest_share(t);
    while (n > 1 && n * each > ACTIVATIONS_MAX)
        n = (n + 1) / 2;
    s->micro_batch = s->micro_batch ? s->micro_batch : n;
}

// Finds the fastest micro-batch and mode that fit: first the largest micro-batch, then no
// recomputing, then light. Recomputing whole blocks is slower than halving, so it comes last. False
// if none fits.
static bool plan_within(size_t bytes, const struct training *t, const struct dit_config *config,
                        struct trainer_settings *s)
{
    for (size_t n = largest_share(t);; n = (n + 1) / 2)
        for (int mode = DIT_TRAIN; mode <= (n == 1 ? DIT_TRAIN_BLOCK : DIT_TRAIN_LIGHT); mode++) {
            s->micro_batch = n;
            s->mode = mode;
            if (trainer_memory_needed(t->device, config, s, t->ranks) <= bytes)
                return true;
            if (n == 1 && mode == DIT_TRAIN_BLOCK)
                return false;
        }
}

static const char *mode_name(enum dit_mode mode)
{
    return mode == DIT_TRAIN ? "none" : mode == DIT_TRAIN_LIGHT ? "light" : "block";
}

static int plan_on_gpu(struct training *t, const struct dit_config *config)
{
    struct device *device = t->device;
    struct trainer_settings *s = &t->settings, free_choice = *s;
    bool mode_given = t->options->recompute >= 0;
    // A sixteenth is left for the workspace of products and for rounding by the allocator.
    size_t available = device->backend->memory_free(device), bytes = available / 16 * 15;
    bool possible = plan_within(bytes, t, config, &free_choice);
    if (!s->micro_batch && !mode_given) {
        *s = free_choice;
    } else if (!s->micro_batch) {
        s->micro_batch = largest_share(t);
        while (s->micro_batch > 1 && trainer_memory_needed(device, config, s, t->ranks) > bytes)
            s->micro_batch = (s->micro_batch + 1) / 2;
    } else if (!mode_given) {
        for (s->mode = DIT_TRAIN; s->mode < DIT_TRAIN_BLOCK; s->mode++)
            if (trainer_memory_needed(device, config, s, t->ranks) <= bytes)
                break;
    }
    size_t needed = trainer_memory_needed(device, config, s, t->ranks);
    if (needed <= bytes)
        return 0;
    char hint[96] = "; no choice of these fits";
    if (possible)
        snprintf(hint, sizeof hint, "; --micro-batch %zu --recompute %s fits",
                 free_choice.micro_batch, mode_name(free_choice.mode));
    return error_set(STATUS_INTERNAL,
                     "training in micro-batches of %zu with --recompute %s needs %.3g GB, and %s "
                     "has %.3g GB free%s",
                     s->micro_batch, mode_name(s->mode), (double)needed * 1e-9, device->description,
                     (double)available * 1e-9, hint);
}

int training_plan_memory(struct training *t, const struct dit_config *config)
{
    struct trainer_settings *s = &t->settings;
    int rc = 0;
    if (s->micro_batch > largest_share(t))
        s->micro_batch = largest_share(t);
    if (t->options->recompute < 0) // on a CPU it costs no time, as less memory is read and written
        s->mode = DIT_TRAIN_LIGHT;
    if (t->device->backend->memory_free)
        rc = plan_on_gpu(t, config);
    else
        plan_on_cpu(t, config);
    if (ranks_check(t->ranks, rc) < 0)
        return -1;
    ranks_broadcast(t->ranks, &s->micro_batch, sizeof s->micro_batch);
    ranks_broadcast(t->ranks, &s->mode, sizeof s->mode);
    t->options->micro_batch = (int64_t)s->micro_batch; // for the checkpoints
    t->options->recompute = (int)(s->mode - DIT_TRAIN);
    return 0;
}

// The step after which training is complete; 0 if only the end of the data tells.
static uint64_t find_last_step(const struct training *t)
{
    uint64_t steps = (uint64_t)t->options->steps, epochs = (uint64_t)t->options->epochs;
    uint64_t records = latents_shape(t->latents)->records, B = t->settings.batch, last = steps;
    if (records == 0)
        return 0;
    if (epochs) {
        uint64_t end = (epochs * records + B - 1) / B;
        last = steps && last < end ? last : end;
    }
    return last ? last : t->one_pass ? records / B : TRAINER_STEPS_DEFAULT;
}

int training_choose_end(struct training *t)
{
    const struct train_options *o = t->options;
    t->settings.last_step = t->last_step = find_last_step(t);
    if (t->settings.lr_schedule == LR_CONSTANT)
        return 0;
    if (!t->last_step)
        return error_set(STATUS_USAGE,
                         "--lr-schedule needs --steps: where the pipe ends is not known");
    if (o->minutes > 0 && !o->steps && !o->epochs)
        return error_set(STATUS_USAGE,
                         "--lr-schedule needs --steps or --epochs: the learning rate falls until "
                         "the last step, whose number --minutes does not tell");
    return 0;
}

int training_check_same(const struct training *t)
{
    uint64_t data = latents_fingerprint(t->latents);
    const struct backend *backend = t->device->backend;
    json_t *settings = json_object();
    char *text = train_options_save(settings) == 0
                     ? json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS)
                     : NULL;
    json_decref(settings);
    if (!text)
        error_set(STATUS_INTERNAL, "no memory for the settings");
    int rc = ranks_check(t->ranks, text ? 0 : -1);
    if (rc == 0)
        rc = ranks_check_same(t->ranks, STATUS_USAGE, "other settings", text, strlen(text));
    if (rc == 0)
        rc = ranks_check_same(t->ranks, STATUS_DATA, "other data", &data, sizeof data);
    char device[64];
    int n = snprintf(device, sizeof device, "%s, %zu", backend->name, backend->act_size);
    if (rc == 0)
        rc = ranks_check_same(t->ranks, STATUS_USAGE, "another kind of device", device, (size_t)n);
    free(text);
    return rc;
}

static size_t count_parameters(const struct training *t)
{
    const struct layout *layout = dit_get_layout(trainer_model(t->trainer));
    size_t n = 0;
    for (size_t i = 0; i < layout->n_params; i++)
        n += layout->params[i].count;
    return n;
}

// The settings as an object of strings, without the "setting." before their names.
static json_t *describe_settings(void)
{
    json_t *all = json_object(), *settings = json_object(), *value;
    const char *key;
    int rc = train_options_save(all);
    json_object_foreach(all, key, value) json_object_set(settings, strchr(key, '.') + 1, value);
    json_decref(all);
    if (rc == 0)
        return settings;
    json_decref(settings);
    return NULL;
}

static json_t *make_config_json(const struct training *t, const char *model)
{
    const struct dit_config *c = dit_get_config(trainer_model(t->trainer));
    json_t *settings = describe_settings(), *arguments = json_array();
    json_t *data = latents_describe(t->latents);
    for (int i = 1; i < tool.argc; i++)
        json_array_append_new(arguments, json_string(tool.argv[i]));
    json_t *sizes =
        json_pack("{ss sI sI sI sI sI sI sI sI sb}", "name", model, "parameters",
                  (json_int_t)count_parameters(t), "depth", (json_int_t)c->depth, "hidden_size",
                  (json_int_t)c->hidden, "num_heads", (json_int_t)c->heads, "patch_size",
                  (json_int_t)c->patch, "input_size", (json_int_t)c->input_size, "in_channels",
                  (json_int_t)c->channels, "num_classes", (json_int_t)c->classes, "null_class",
                  !c->no_null_class);
    // json_pack fails if any part is NULL.
    json_t *all = json_pack(
        "{ss ss so so so so s{sI so} s{ss si si sI}}", "program", "dit-train", "version",
        DIT_TOOLS_VERSION, "arguments", arguments, "model", sizes, "settings", settings, "metadata",
        json_deep_copy(latents_schema(t->latents)->metadata), "data", "records",
        (json_int_t)latents_shape(t->latents)->records, "files", data, "compute", "device",
        t->device->description, "threads", (int)tool.threads, "ranks", ranks_size(t->ranks),
        "micro_batch", (json_int_t)t->settings.micro_batch);
    if (!all)
        error_set(STATUS_INTERNAL, "no memory for config.json");
    return all;
}

int training_describe(struct training *t)
{
    const struct dit_config *c = dit_get_config(trainer_model(t->trainer));
    int n_ranks = ranks_size(t->ranks), rc = 0;
    char text[96], ranks[32] = "";
    dit_config_text(c, text, sizeof text);
    if (n_ranks > 1)
        snprintf(ranks, sizeof ranks, " on %d ranks", n_ranks);
    tool_note("%s, %zu parameters, %zu classes, latents %zux%zux%zu; batch %zu%s in parts of %zu; "
              "%.2f GB, and up to %.2f GB for latents; %s",
              text, count_parameters(t), c->classes, c->channels, c->input_size, c->input_size,
              t->settings.batch, ranks, t->settings.micro_batch,
              (double)(trainer_memory(t->trainer) + preview_memory(t->preview) +
                       evaluation_memory(t->evaluation)) *
                  1e-9,
              (double)latents_memory(t->latents) * 1e-9, t->device->description);
    t->flops = 3 * dit_forward_flops(c);
    t->peak = n_ranks * device_peak_flops(t->device);
    if (ranks_rank(t->ranks) == 0 &&
        (run_folder_save_config(&t->run, make_config_json(t, text)) < 0 ||
         run_folder_open_log(&t->run, t->step) < 0))
        rc = -1;
    const struct train_options *o = t->options;
    const bool told = ranks_rank(t->ranks) == 0 && (o->tensorboard || o->prometheus);
    if (rc == 0 && told &&
        !(t->monitor = monitor_open(&t->run, o->tensorboard, o->prometheus, t->step)))
        rc = -1;
    return ranks_check(t->ranks, rc);
}
