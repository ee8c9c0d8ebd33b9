// dit-train: latents -> weights. SPDX-License-Identifier: MIT
#include <string.h>

#include "bin/dit-train/settings.h"
#include "bin/dit-train/training.h"
#include "lib/tool/tool-device.h"
#include "lib/tool/tool.h"

static const char *model = "DiT-S/2";
static int64_t depth, hidden, heads, patch, classes,
    batch = 256, micro_batch, warmup, steps, epochs, log_every = 100, save_every = 50000, keep = 3,
    max_skips = 100, sample_every, sample_count = 16, valid_every = 1000, valid_count = 1024;
static double lr = 1e-4, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay, clip,
              ema_decay = 0.9999, class_dropout = 0.1;
static uint64_t memory = (uint64_t)1 << 30;
static int recompute = -1;
static bool cache, partial, shard_optimizer;
static const char *valid, *vae;
// What a checkpoint remembers of the command line, so that --resume needs none of it again.
// clang-format off
#define SETTINGS                                                                                   \
    OPTION_STRING("model", 'm', &model, "NAME",                                                    \
                  "DiT-S, -B, -L or -XL with /2, /4 or /8 (default DiT-S/2)"),                     \
    OPTION_INT("depth", 0, &depth, 1, 1024, "number of blocks, instead of the model's"),           \
    OPTION_INT("hidden", 0, &hidden, 4, 65536, "width, instead of the model's"),                   \
    OPTION_INT("heads", 0, &heads, 1, 1024, "attention heads, instead of the model's"),            \
    OPTION_INT("patch", 0, &patch, 1, 1024, "side of a patch, instead of the model's"),            \
    OPTION_INT("classes", 0, &classes, 1, 1 << 24,                                                 \
               "number of classes (default: that of the data, or 1000)"),                          \
    OPTION_INT("batch", 'b', &batch, 1, 1 << 20,                                                   \
               "samples per step, over all ranks (default 256)"),                                  \
    OPTION_INT("micro-batch", 0, &micro_batch, 1, 1 << 20,                                         \
               "samples computed at a time on a rank (default: as memory allows)"),                \
    OPTION_CHOICE("recompute", 0, &recompute,                                                      \
                  "recompute activations to save memory (default light; on a GPU none if it fits)",\
                  "none", "light", "block"),                                                       \
    OPTION_FLOAT("lr", 0, &lr, 0, 1000, "learning rate (default 1e-4)"),                           \
    OPTION_INT("lr-warmup", 0, &warmup, 0, 1e15,                                                   \
               "steps over which the learning rate rises (default 0)"),                            \
    OPTION_FLOAT("beta1", 0, &beta1, 0, 0.999999,                                                  \
                 "AdamW's decay of the first moment (default 0.9)"),                               \
    OPTION_FLOAT("beta2", 0, &beta2, 0, 0.999999,                                                  \
                 "AdamW's decay of the second moment (default 0.999)"),                            \
    OPTION_FLOAT("eps", 0, &eps, 0, 1, "AdamW's epsilon (default 1e-8)"),                          \
    OPTION_FLOAT("weight-decay", 0, &weight_decay, 0, 1000, "AdamW's weight decay (default 0)"),   \
    OPTION_FLOAT("clip", 0, &clip, 0, 1e9,                                                         \
                 "largest norm of the gradient, or 0 for any (default 0)"),                        \
    OPTION_FLOAT("ema-decay", 0, &ema_decay, 0, 1,                                                 \
                 "decay of the averaged (EMA) weights (default 0.9999)"),                          \
    OPTION_FLOAT("class-dropout", 0, &class_dropout, 0, 1,                                         \
                 "share of labels to drop, for guidance (default 0.1)"),                           \
    TOOL_OPTION_SEED,                                                                              \
    OPTION_INT("steps", 'n', &steps, 1, 1e15,                                                      \
               "stop after step N (default 400000; from a pipe: one pass)"),                       \
    OPTION_INT("epochs", 'e', &epochs, 1, 1e9, "stop after N passes over the data"),               \
    OPTION_INT("log-every", 0, &log_every, 1, 1e9,                                                 \
               "steps between lines of the log (default 100)"),                                    \
    OPTION_INT("save-every", 0, &save_every, 1, 1e12,                                              \
               "steps between checkpoints (default 50000)"),                                       \
    OPTION_INT("keep", 0, &keep, 1, 1e6, "number of newest checkpoints to keep (default 3)"),      \
    OPTION_INT("max-skips", 0, &max_skips, 1, 1e9,                                                 \
               "give up after N non-finite steps in a row (default 100)"),                         \
    OPTION_INT("sample-every", 0, &sample_every, 0, 1e12,                                          \
               "steps between sheets of sample images (default 0: none)"),                         \
    OPTION_INT("sample-count", 0, &sample_count, 1, 4096,                                          \
               "sample images on a sheet (default 16)"),                                           \
    OPTION_STRING("vae", 0, &vae, "FILE",                                                          \
                  "autoencoder of the sample images (default: the one that made the latents)"),    \
    OPTION_STRING("valid", 0, &valid, "SHARD",                                                     \
                  "also log the loss on these latents, which are not trained on"),                 \
    OPTION_INT("valid-every", 0, &valid_every, 1, 1e12,                                            \
               "steps between evaluations of --valid (default 1000)"),                             \
    OPTION_INT("valid-count", 0, &valid_count, 1, 1 << 24,                                         \
               "largest number of latents of --valid (default 1024)"),                             \
    OPTION_SIZE("memory", 0, &memory, "memory for latents in bytes (default 1G)"),                 \
    OPTION_FLAG("cache", 0, &cache, "keep all latents in memory"),                                 \
    OPTION_FLAG("partial", 0, &partial, "train even if shards of a set are missing"),              \
    OPTION_FLAG("shard-optimizer", 0, &shard_optimizer,                                            \
                "keep only a part of the optimizer's state on each rank")
// clang-format on
static const struct option settings[] = {SETTINGS, OPTION_END};

static double minutes;
static const char *folder = "run", *init;
static bool resume, accept_data, dry_run;
static const struct option options[] = {
    SETTINGS,
    OPTION_FLOAT("minutes", 0, &minutes, 0, 1e9, "stop after X minutes, with a checkpoint"),
    OPTION_STRING("run", 'r', &folder, "FOLDER", "folder for checkpoints and log (default run)"),
    OPTION_FLAG("resume", 0, &resume,
                "continue from the newest checkpoint in FOLDER, if there is one"),
    OPTION_FLAG("accept-data", 0, &accept_data, "resume even if the data has changed"),
    OPTION_STRING("init", 0, &init, "FILE", "start from the weights in FILE (fine-tuning)"),
    OPTION_FLAG("dry-run", 0, &dry_run, "only read the latents and report the speed"),
    TOOL_OPTION_THREADS,
    TOOL_OPTION_DEVICE,
    TOOL_OPTIONS_COMMON,
    OPTION_END};
static const struct tool_info info = {"dit-train", "[OPTION]... [SHARD]... < LATENTS",
                                      "Train a Diffusion Transformer on a stream of latents.",
                                      options};

static void set_wishes(struct training *t)
{
    t->settings = settings;
    t->how = (struct trainer_settings){
        .seed = tool.seed,
        .batch = (size_t)batch,
        .micro_batch = (size_t)micro_batch,
        .mode = recompute < 0 ? DIT_TRAIN : DIT_TRAIN + (enum dit_mode)recompute,
        .lr = lr,
        .lr_warmup_steps = (uint64_t)warmup,
        .beta1 = beta1,
        .beta2 = beta2,
        .eps = eps,
        .weight_decay = weight_decay,
        .clip = clip,
        .ema_decay = ema_decay,
        .class_dropout = class_dropout,
        .shard_optimizer = shard_optimizer,
    };
    t->keep = (size_t)keep;
    t->log_every = (uint64_t)log_every;
    t->save_every = (uint64_t)save_every;
    t->sample_every = (uint64_t)sample_every;
    t->valid_every = valid && *valid ? (uint64_t)valid_every : 0;
    t->max_skips = (uint64_t)max_skips;
    t->minutes = minutes;
    t->accept_data = accept_data;
    if (batch < ranks_size(t->ranks))
        tool_usage_error("--batch %lld is too small for %d ranks: each takes a part of it",
                         (long long)batch, ranks_size(t->ranks));
}

static void open_data(struct training *t, char **shards)
{
    if (ranks_size(t->ranks) > 1 && (!shards[0] || strcmp(shards[0], "-") == 0))
        tool_usage_error(
            "%d ranks cannot share standard input; give the latents' files as arguments",
            ranks_size(t->ranks));
    struct latents_options reading = {.seed = tool.seed,
                                      .memory = memory,
                                      .one_pass = t->one_pass,
                                      .cache = cache,
                                      .partial = partial,
                                      .threads = (size_t)tool.threads};
    t->latents = latents_open(shards, &reading);
    tool_check(ranks_check(t->ranks, t->latents ? 0 : -1));
}

// The model that shows pictures and held-out losses: of rank 0, and where it is wanted.
static void make_preview(struct training *t, const struct dit_config *config)
{
    struct preview_settings wanted = {.seed = tool.seed,
                                      .samples = sample_every ? (size_t)sample_count : 0,
                                      .vae = vae,
                                      .valid = t->valid_every ? valid : NULL,
                                      .valid_records = (size_t)valid_count,
                                      .threads = (size_t)tool.threads};
    bool here = ranks_rank(t->ranks) == 0 && (wanted.samples || wanted.valid);
    if (here)
        t->preview = preview_new(t->device, config, t->latents, &wanted);
    tool_check(ranks_check(t->ranks, here && !t->preview ? -1 : 0));
}

int main(int argc, char **argv)
{
    struct training t = {.ranks = ranks_open(argc, argv, &tool.rank)};
    char **shards = tool_start(argc, argv, &info);
    if (!t.ranks)
        tool_fail();
    if (dry_run) {
        set_wishes(&t);
        t.one_pass = epochs <= 1 && !steps;
        open_data(&t, shards);
        tool_catch_signals();
        tool_check(training_dry_run(&t, (uint64_t)steps, (uint64_t)epochs));
        latents_close(t.latents);
        ranks_close(t.ranks);
        return tool_finish();
    }

    struct dit_file from = {0};
    int resumed = training_open_folder(&t, folder, resume, &from);
    tool_check(resumed);
    if (resumed) {
        bool limited = steps || epochs;
        tool_check(
            settings_read(settings, from.weights.metadata) < 0 ? error_prefix("%s", from.path) : 0);
        if (limited)
            steps = epochs = 0;
        shards = tool_start(argc, argv, &info); // again: what it says comes before the settings
    } else if (init) {
        struct dit_hints hints = {.heads = (size_t)heads, .other_data = true};
        tool_check(ranks_check(t.ranks, dit_file_open(&from, init, &hints)));
    }
    const struct dit_file *source = from.path ? &from : NULL;
    set_wishes(&t);
    t.one_pass = !steps && !epochs && (resumed ? training_was_one_pass(&from) : !minutes);
    open_data(&t, shards);
    if (!resumed) // a file is read again and again
        t.one_pass = latents_shape(t.latents)->records == 0;

    t.device = tool_open_device();
    tool_check(ranks_check(t.ranks, t.device ? 0 : -1));
    tool_check(ranks_join(t.ranks, t.device));
    tool_check(training_check_same(&t));
    tool_catch_signals();
    struct dit_config config = {.depth = (size_t)depth,
                                .hidden = (size_t)hidden,
                                .heads = (size_t)heads,
                                .patch = (size_t)patch,
                                .classes = classes   ? (size_t)classes
                                           : resumed ? from.config.classes
                                                     : 0};
    tool_check(training_choose_config(&config, t.latents, model, source));
    make_preview(&t, &config);
    tool_check(training_plan_memory(&t, &config, recompute >= 0));
    micro_batch = (int64_t)t.how.micro_batch; // as checkpoints remember them
    recompute = (int)(t.how.mode - DIT_TRAIN);
    t.trainer = trainer_new(t.device, &config, &t.how, t.ranks);
    tool_check(ranks_check(t.ranks, t.trainer ? 0 : -1));
    tool_check(resumed ? training_resume(&t, source) : training_start(&t, source));
    t.last_step = training_last_step(&t, (uint64_t)steps, (uint64_t)epochs);
    tool_check(training_describe(&t));
    tool_check(training_run(&t));

    bool stopped = t.stopped;
    preview_free(t.preview);
    trainer_free(t.trainer);
    latents_close(t.latents);
    run_folder_close(&t.run);
    device_close(t.device);
    if (source) // not before: settings may point into its metadata
        dit_file_close(&from);
    ranks_close(t.ranks);
    int status = tool_finish();
    return stopped ? STATUS_STOPPED : status;
}
