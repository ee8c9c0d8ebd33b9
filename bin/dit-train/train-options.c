// dit-train's table of options, and how a checkpoint keeps and restores the settings among them.
// SPDX-License-Identifier: MIT
#include "bin/dit-train/train-options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/inception-file.h"
#include "lib/tool/options.h"
#include "lib/tool/tool.h"

// The table below stores values here.
static struct train_options values = {
    .batch = 256,
    .recompute = -1,
    .objective = -1,
    .path = -1,
    .prediction = -1,
    .lr_schedule = -1,
    .lr = 1e-4,
    .beta1 = 0.9,
    .beta2 = 0.999,
    .eps = 1e-8,
    .ema_decay = "0.9999",
    .ema_warmup = true,
    .class_dropout = 0.1,
    .log_every = 100,
    .save_every = 50000,
    .save_minutes = 15,
    .keep = 3,
    .max_skips = 100,
    .sample_count = 16,
    .eval_count = 5000,
    .eval_steps = 50,
    .valid_every = 1000,
    .valid_count = 1024,
    .memory = (uint64_t)1 << 30,
    .run = "run",
};

// The settings, whose names are part of the checkpoints' format, stand between these rows. Before
// them stand the sizes of the model, which a checkpoint tells by its weights.
#define FIRST_SETTING "batch"
#define FIRST_OTHER   "minutes"
static const struct option rows[] = {
    OPTION_STRING("model", 'm', &values.model, "NAME",
                  "DiT-S, -B, -L or -XL with /2, /4 or /8 (default DiT-S/2)"),
    OPTION_INT("depth", 0, &values.depth, 1, 1024, "number of blocks, in place of --model's"),
    OPTION_INT("hidden", 0, &values.hidden, 4, 65536, "width, in place of --model's"),
    OPTION_INT("heads", 0, &values.heads, 1, 1024, "attention heads, in place of --model's"),
    OPTION_INT("patch", 0, &values.patch, 1, 1024, "side of a patch, in place of --model's"),
    OPTION_INT("classes", 0, &values.classes, 1, 1 << 24,
               "number of classes (default: that of the data, or 1000)"),
    OPTION_INT("batch", 'b', &values.batch, 1, 1 << 20,
               "samples per step, over all ranks (default 256)"),
    OPTION_INT("micro-batch", 0, &values.micro_batch, 1, 1 << 20,
               "samples computed at a time on a rank (default: as memory allows)"),
    OPTION_CHOICE("recompute", 0, &values.recompute,
                  "recompute activations to save memory (default light; on a GPU none if it fits)",
                  "none", "light", "block"),
    OPTION_CHOICE("objective", 0, &values.objective,
                  "what the model learns: the noise of diffusion, or a flow (default diffusion)",
                  "diffusion", "flow"),
    OPTION_CHOICE("path", 0, &values.path, "path of the flow from noise to data (default linear)",
                  "linear", "gvp", "vp"),
    OPTION_CHOICE("prediction", 0, &values.prediction,
                  "what a model of the flow predicts (default velocity)", "velocity", "noise",
                  "score"),
    OPTION_STRING("loss-weight", 0, &values.loss_weight, "WEIGHT",
                  "weight of the loss over time: none, min-snr[:G], velocity or likelihood "
                  "(default none)"),
    OPTION_STRING("timesteps", 0, &values.timesteps, "LAW",
                  "how times are drawn: uniform (default), for flow logit-normal[:MEAN,STD]"),
    OPTION_FLOAT("lr", 0, &values.lr, 0, 1000, "learning rate (default 1e-4)"),
    OPTION_INT("lr-warmup", 0, &values.lr_warmup, 0, 1e15,
               "steps over which the learning rate rises (default 0)"),
    OPTION_CHOICE("lr-schedule", 0, &values.lr_schedule,
                  "learning rate after the warm-up: constant, or falling until the last step "
                  "(default constant)",
                  "constant", "cosine", "wsd"),
    OPTION_FLOAT("lr-final", 0, &values.lr_final, 0, 1,
                 "share of the learning rate to which cosine and wsd fall (default 0)"),
    OPTION_FLOAT("beta1", 0, &values.beta1, 0, 0.999999,
                 "AdamW's decay of the first moment (default 0.9)"),
    OPTION_FLOAT("beta2", 0, &values.beta2, 0, 0.999999,
                 "AdamW's decay of the second moment (default 0.999)"),
    OPTION_FLOAT("eps", 0, &values.eps, 0, 1, "AdamW's epsilon (default 1e-8)"),
    OPTION_FLOAT("weight-decay", 0, &values.weight_decay, 0, 1000,
                 "AdamW's weight decay (default 0)"),
    OPTION_FLOAT("clip", 0, &values.clip, 0, 1e9,
                 "clip the gradient to this norm; 0 for no clipping (default 0)"),
    OPTION_FLOAT("skip-z", 0, &values.skip_z, 0, 1e9,
                 "skip steps whose loss or gradient is X standard deviations above its last 128; "
                 "0 for none (default 0)"),
    OPTION_STRING("ema-decay", 0, &values.ema_decay, "LIST",
                  "decays of the averaged (EMA) weights; the first one is drawn from (default "
                  "0.9999)"),
    OPTION_STRING("ema-power", 0, &values.ema_power, "LIST",
                  "also keep power-function averages of these relative widths, as 0.05,0.10"),
    OPTION_FLAG("ema-snapshots", 0, &values.ema_snapshots,
                "copy the power-function averages of each checkpoint to run/snapshots"),
    OPTION_FLAG(
        "ema-warmup", 0, &values.ema_warmup,
        "let the decay rise to --ema-decay (--no-ema-warmup: keep it constant, as published)"),
    OPTION_FLOAT("class-dropout", 0, &values.class_dropout, 0, 1,
                 "share of labels to drop, for guidance (default 0.1)"),
    TOOL_OPTION_SEED,
    OPTION_INT("steps", 'n', &values.steps, 1, 1e15,
               "stop after step N (default 400000; from a pipe: one pass)"),
    OPTION_INT("epochs", 'e', &values.epochs, 1, 1e9, "stop after N passes over the data"),
    OPTION_INT("log-every", 0, &values.log_every, 1, 1e9,
               "steps between lines of the log (default 100)"),
    OPTION_INT("save-every", 0, &values.save_every, 1, 1e12,
               "steps between checkpoints (default 50000)"),
    OPTION_FLOAT("save-minutes", 0, &values.save_minutes, 0, 1e9,
                 "minutes between checkpoints, or 0 to save by steps alone (default 15)"),
    OPTION_INT("keep", 0, &values.keep, 1, 1e6, "number of newest checkpoints to keep (default 3)"),
    OPTION_INT("max-skips", 0, &values.max_skips, 1, 1e9,
               "give up after N non-finite steps in a row (default 100)"),
    OPTION_INT("sample-every", 0, &values.sample_every, 0, 1e12,
               "steps between sheets of sample images (default 0: none)"),
    OPTION_INT("sample-count", 0, &values.sample_count, 1, 4096,
               "sample images on a sheet (default 16)"),
    OPTION_STRING(
        "vae", 0,
        &values.vae, "FILE",
        "autoencoder of the images that are drawn (default: the one that made the latents)"),
    OPTION_INT("eval-every", 0, &values.eval_every, 0, 1e12,
               "steps between evaluations of FID against --reference (default 0: none)"),
    OPTION_INT("eval-count", 0, &values.eval_count, 1, 1e9,
               "images to draw for FID (default 5000)"),
    OPTION_INT("eval-steps", 0, &values.eval_steps, 1, 100000,
               "sampling steps of the images for FID (default 50)"),
    OPTION_STRING("reference", 0, &values.reference, "FILE",
                  "statistics for FID (.npz), as evaluate-images --save writes them"),
    OPTION_STRING("inception", 0, &values.inception, "FILE",
                  "weights of the network of FID (default: $DIT_INCEPTION, or inception)"),
    OPTION_STRING("valid", 0, &values.valid, "SHARD",
                  "also log the loss on these held-out latents"),
    OPTION_INT("valid-every", 0, &values.valid_every, 1, 1e12,
               "steps between evaluations of --valid (default 1000)"),
    OPTION_INT("valid-count", 0, &values.valid_count, 1, 1 << 24,
               "largest number of latents of --valid (default 1024)"),
    OPTION_FLAG("tensorboard", 0, &values.tensorboard,
                "also write the log and the sheets for TensorBoard, to FOLDER/tensorboard"),
    OPTION_SIZE("memory", 0, &values.memory, "memory for latents in bytes (default 1G)"),
    OPTION_FLAG("cache", 0, &values.cache, "keep all latents in memory"),
    OPTION_FLAG("partial", 0, &values.partial, "train even if shards of a set are missing"),
    OPTION_FLAG("shard-optimizer", 0, &values.shard_optimizer,
                "keep only a part of the optimizer's state on each rank"),
    TOOL_OPTION_PRECISION,
    TOOL_OPTION_DETERMINISTIC,
    OPTION_FLOAT("minutes", 0, &values.minutes, 0, 1e9, "stop after X minutes, with a checkpoint"),
    OPTION_STRING("run", 'r', &values.run, "FOLDER",
                  "folder for checkpoints and log (default run)"),
    OPTION_STRING("prometheus", 0, &values.prometheus, "FILE",
                  "also write the last line of the log for Prometheus, to FILE"),
    OPTION_FLAG("resume", 0, &values.resume,
                "continue from the newest checkpoint in FOLDER, if there is one"),
    OPTION_FLAG("accept-data", 0, &values.accept_data, "resume even if the data has changed"),
    OPTION_STRING("init", 0, &values.init, "FILE", "start from the weights in FILE (fine-tuning)"),
    OPTION_FLAG("dry-run", 0, &values.dry_run,
                "only read the latents, try the model, and report time and memory"),
    TOOL_OPTION_THREADS,
    TOOL_OPTION_DEVICE,
    TOOL_OPTIONS_COMMON,
    OPTION_END};
static bool given[sizeof rows / sizeof *rows]; // by the command line

char **train_options_parse(struct train_options **options, int argc, char **argv)
{
    static const struct tool_info info = {"dit-train", "[OPTION]... [SHARD]... < LATENTS",
                                          "Train a Diffusion Transformer on a stream of latents.",
                                          rows};
    *options = &values;
    tool.given = given;
    return tool_start(argc, argv, &info);
}

static const struct option *find_option_row(const char *name)
{
    const struct option *row = rows;
    while (strcmp(row->name, name) != 0)
        row++;
    return row;
}

bool train_options_given(const char *name)
{
    return given[find_option_row(name) - rows];
}

static const struct option *first_setting(void)
{
    return find_option_row(FIRST_SETTING);
}

static bool is_setting(const struct option *row)
{
    return strcmp(row->name, FIRST_OTHER) != 0;
}

static bool is_limit(const struct option *row)
{
    return strcmp(row->name, "steps") == 0 || strcmp(row->name, "epochs") == 0;
}

static void make_key(const struct option *row, char key[80])
{
    snprintf(key, 80, "setting.%s", row->name);
}

int train_options_restore(const json_t *metadata)
{
    bool limited = values.steps || values.epochs;
    for (const struct option *row = first_setting(); is_setting(row); row++) {
        char key[80];
        make_key(row, key);
        const char *text = json_string_value(json_object_get(metadata, key));
        if (given[row - rows] || (limited && is_limit(row)))
            continue;
        if (!text && row->type == OPTION_TYPE_FLAG) // there was no such option then
            *row->value.flag = false;
        if (!text)
            continue;
        if (options_set_value(row, text) < 0)
            return error_set(STATUS_DATA, "metadata %s is \"%s\", which dit-train does not write",
                             key, text);
    }
    return 0;
}

static bool has_folder(const char *path)
{
    return path && strchr(path, '/');
}

bool train_options_have_paths(void)
{
    return has_folder(values.vae) || has_folder(values.valid) || has_folder(values.reference) ||
           has_folder(values.inception);
}

static bool is_given(const void *value)
{
    const struct option *row = rows;
    while (row->value.string != value)
        row++;
    return given[row - rows];
}

// A foreign path that is not used is forgotten, lest a later run find it in a checkpoint of this
// one.
static int check_path(const char *option, const char **path, bool used, const char *way_out)
{
    char shown[ERROR_SHOWN_SIZE];
    if (!has_folder(*path) || is_given(path))
        return 0;
    if (used)
        return error_set(STATUS_USAGE,
                         "its --%s is %s, but it was not written in this folder, and paths from "
                         "elsewhere are not opened: repeat the option, or give %s",
                         option, error_shown(*path, strlen(*path), shown), way_out);
    *path = NULL;
    return 0;
}

int train_options_check_paths(void)
{
    const bool draws = values.sample_every || values.eval_every;
    const bool evaluates = values.eval_every > 0;
    if (check_path("vae", &values.vae, draws,
                   evaluates ? "--sample-every 0 --eval-every 0 for no images"
                             : "--sample-every 0 for no images") < 0 ||
        check_path("valid", &values.valid, true, "--valid '' for none") < 0 ||
        check_path("reference", &values.reference, evaluates, "--eval-every 0 for no FID") < 0)
        return -1;
    return check_path("inception", &values.inception, evaluates, "--eval-every 0 for no FID");
}

int train_options_check_evaluation(void)
{
    if (values.eval_every == 0)
        return values.reference && is_given(&values.reference)
                   ? error_set(STATUS_USAGE, "--reference needs --eval-every")
                   : 0;
    if (!values.reference || !*values.reference)
        return error_set(STATUS_USAGE, "--eval-every needs a --reference to compare with");
    if (!inception_file_choose(values.inception))
        return error_set(STATUS_USAGE, "--eval-every needs the Inception network: --inception "
                                       "pt_inception-2015-12-05-6726825d.pth, or $DIT_INCEPTION; "
                                       "\"get-weights.sh inception\" fetches it");
    return 0;
}

// Numbers that can't be 0 and choices that can't be negative are so until they are set.
static bool is_unset(const struct option *row)
{
    if (row->type == OPTION_TYPE_CHOICE)
        return *row->value.choice < 0;
    return row->type == OPTION_TYPE_INT && row->min > 0 && *row->value.integer == 0;
}

int train_options_save(json_t *metadata)
{
    for (const struct option *row = first_setting(); is_setting(row); row++) {
        char key[80], *text;
        make_key(row, key);
        if (is_unset(row))
            continue;
        if (options_value_text(row, &text) < 0)
            return -1;
        if (text && json_object_set_new(metadata, key, json_string(text)) < 0) {
            free(text);
            return error_set(STATUS_INTERNAL, "no memory for the metadata's %s", key);
        }
        free(text);
    }
    return 0;
}

bool train_options_validate(const struct train_options *o)
{
    return o->valid && *o->valid;
}

struct objective train_options_objective(const struct train_options *o)
{
    return (struct objective){.kind = (enum objective_kind)(o->objective + 1),
                              .path = (enum flow_path)(o->path + 1),
                              .prediction = (enum flow_prediction)(o->prediction + 1)};
}

// Whether the text is `name`, or that with a colon and numbers after it, of which *numbers is set.
static bool has_name(const char *text, const char *name, const char **numbers)
{
    size_t length = strlen(name);
    *numbers = text[length] == ':' ? text + length + 1 : NULL;
    return strncmp(text, name, length) == 0 && (!text[length] || *numbers);
}

static int read_weight(struct loss_settings *loss, const char *text)
{
    const bool flow = loss->objective.kind == OBJECTIVE_FLOW;
    const bool weighted = flow && loss->objective.prediction != FLOW_VELOCITY;
    const char *number;
    char *end;
    if (!text || strcmp(text, "none") == 0)
        return 0;
    if (!flow && has_name(text, "min-snr", &number)) {
        loss->min_snr = number ? strtod(number, &end) : 5;
        if (loss->min_snr > 0 && isfinite(loss->min_snr) && (!number || !*end))
            return 0;
    } else if (weighted && strcmp(text, "velocity") == 0) {
        loss->weight = FLOW_WEIGHT_VELOCITY;
        return 0;
    } else if (weighted && strcmp(text, "likelihood") == 0) {
        loss->weight = FLOW_WEIGHT_LIKELIHOOD;
        return 0;
    }
    return error_set(STATUS_USAGE, "--loss-weight %.40s: expected %s", text,
                     !flow      ? "none or min-snr:G with G > 0, for diffusion"
                     : weighted ? "none, velocity or likelihood, for flow"
                                : "none, for a flow's velocity");
}

static int read_timesteps(struct loss_settings *loss, const char *text)
{
    const char *numbers;
    int end = 0;
    loss->time_mean = 0;
    loss->time_std = 1;
    if (!text || strcmp(text, "uniform") == 0)
        return 0;
    loss->logit_normal = true;
    if (loss->objective.kind == OBJECTIVE_FLOW && has_name(text, "logit-normal", &numbers) &&
        (!numbers || (sscanf(numbers, "%lf,%lf%n", &loss->time_mean, &loss->time_std, &end) == 2 &&
                      !numbers[end] && isfinite(loss->time_mean) && loss->time_std > 0 &&
                      isfinite(loss->time_std))))
        return 0;
    return error_set(STATUS_USAGE, "--timesteps %.40s: expected uniform%s", text,
                     loss->objective.kind == OBJECTIVE_FLOW
                         ? " or logit-normal:MEAN,STD with STD > 0"
                         : ", for diffusion");
}

int train_options_loss(const struct train_options *o, struct loss_settings *loss)
{
    return read_weight(loss, o->loss_weight) < 0 ? -1 : read_timesteps(loss, o->timesteps);
}

// Reads different numbers between commas, up to n_max of them. Returns how many, or -1 without an
// error.
static int read_number_list(const char *text, double min, double max, size_t n_max, double *numbers)
{
    size_t n = 0;
    char *end;
    bool good;
    do {
        if (n == n_max)
            return -1;
        numbers[n] = strtod(text, &end);
        good = end > text && numbers[n] >= min && numbers[n] <= max;
        for (size_t i = 0; i < n; i++)
            good = good && numbers[i] != numbers[n];
        n++;
        text = end + 1;
    } while (good && *end == ',');
    return good && !*end ? (int)n : -1;
}

int train_options_averages(const struct train_options *o, struct trainer_settings *settings)
{
    double numbers[1 + TRAINER_AVERAGES_MAX];
    int n = read_number_list(o->ema_decay, 0, 1, 1 + TRAINER_AVERAGES_MAX, numbers);
    if (n < 0)
        return error_set(
            STATUS_USAGE,
            "--ema-decay %.60s: expected 1 to %d different numbers from 0 to 1, with commas",
            o->ema_decay, 1 + TRAINER_AVERAGES_MAX);
    settings->ema_decay = numbers[0];
    settings->n_more = 0;
    for (int i = 1; i < n; i++)
        settings->more[settings->n_more++] = (struct average){.decay = numbers[i]};
    if (!o->ema_power)
        return o->ema_snapshots
                   ? error_set(STATUS_USAGE, "--ema-snapshots needs --ema-power, which it is of")
                   : 0;
    const size_t left = TRAINER_AVERAGES_MAX - settings->n_more;
    n = read_number_list(o->ema_power, AVERAGE_WIDTH_MIN, AVERAGE_WIDTH_MAX, left, numbers);
    if (n < 0)
        return error_set(STATUS_USAGE,
                         "--ema-power %.60s: expected different numbers from %g to %g, with "
                         "commas, at most %zu beside --ema-decay %.60s",
                         o->ema_power, AVERAGE_WIDTH_MIN, AVERAGE_WIDTH_MAX, left, o->ema_decay);
    for (int i = 0; i < n; i++)
        settings->more[settings->n_more++] = (struct average){.width = numbers[i]};
    return 0;
}

struct trainer_settings train_options_trainer(const struct train_options *o)
{
    return (struct trainer_settings){
        .seed = tool.seed,
        .batch = (size_t)o->batch,
        .micro_batch = (size_t)o->micro_batch,
        .mode = o->recompute < 0 ? DIT_TRAIN : DIT_TRAIN + (enum dit_mode)o->recompute,
        .lr = o->lr,
        .lr_warmup_steps = (uint64_t)o->lr_warmup,
        .lr_schedule = o->lr_schedule < 0 ? LR_CONSTANT : (enum lr_schedule)o->lr_schedule,
        .lr_final = o->lr_final,
        .beta1 = o->beta1,
        .beta2 = o->beta2,
        .eps = o->eps,
        .weight_decay = o->weight_decay,
        .clip = o->clip,
        .skip_z = o->skip_z,
        .ema_warmup = o->ema_warmup,
        .class_dropout = o->class_dropout,
        .shard_optimizer = o->shard_optimizer,
    };
}
