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
    {"model", 'm', OPTION_STRING, &model, "NAME",                                                  \
     "DiT-S, -B, -L or -XL with /2, /4 or /8 (default DiT-S/2)", 0, 0, NULL},                      \
    {"depth", 0, OPTION_INT, &depth, "N", "blocks, in place of the model's", 1, 1024, NULL},       \
    {"hidden", 0, OPTION_INT, &hidden, "N", "width, in place of the model's", 4, 65536, NULL},     \
    {"heads", 0, OPTION_INT, &heads, "N", "heads, in place of the model's", 1, 1024, NULL},        \
    {"patch", 0, OPTION_INT, &patch, "N", "side of a patch, in place of the model's", 1, 1024,     \
     NULL},                                                                                        \
    {"classes", 0, OPTION_INT, &classes, "N", "classes (default: the data's, else 1000)", 1,       \
     1 << 24, NULL},                                                                               \
    {"batch", 'b', OPTION_INT, &batch, "N", "samples of a step (default 256)", 1, 1 << 20, NULL},  \
    {"micro-batch", 0, OPTION_INT, &micro_batch, "N",                                              \
     "of them, those in memory at once (default: what 2 GiB hold)", 1, 1 << 20, NULL},             \
    {"recompute", 0, OPTION_CHOICE, &recompute, "none|light|block",                                \
     "save memory by computing again (default light; a GPU: none if it fits)", 0, 0,                  \
     (const char *const[]){"none", "light", "block", NULL}},                                       \
    {"lr", 0, OPTION_FLOAT, &lr, "X", "learning rate (default 1e-4)", 0, 1000, NULL},              \
    {"lr-warmup", 0, OPTION_INT, &warmup, "N", "steps over which it rises (default 0)", 0, 1e15,   \
     NULL},                                                                                        \
    {"beta1", 0, OPTION_FLOAT, &beta1, "X", "of AdamW (default 0.9)", 0, 0.999999, NULL},                 \
    {"beta2", 0, OPTION_FLOAT, &beta2, "X", "of AdamW (default 0.999)", 0, 0.999999, NULL},               \
    {"eps", 0, OPTION_FLOAT, &eps, "X", "of AdamW (default 1e-8)", 0, 1, NULL},                    \
    {"weight-decay", 0, OPTION_FLOAT, &weight_decay, "X", "of AdamW (default 0)", 0, 1000, NULL},  \
    {"clip", 0, OPTION_FLOAT, &clip, "X", "largest norm of the gradient (default: any)", 0, 1e9,   \
     NULL},                                                                                        \
    {"ema-decay", 0, OPTION_FLOAT, &ema_decay, "X", "of the averaged weights (default 0.9999)", 0, \
     1, NULL},                                                                                     \
    {"class-dropout", 0, OPTION_FLOAT, &class_dropout, "X",                                        \
     "share of labels dropped for guidance (default 0.1)", 0, 1, NULL},                            \
    TOOL_OPTION_SEED,                                                                              \
    {"steps", 'n', OPTION_INT, &steps, "N",                                                        \
     "stop after step N (default 400000; a pipe: one pass)", 1, 1e15, NULL},                       \
    {"epochs", 'e', OPTION_INT, &epochs, "N", "stop after N passes over the data", 1, 1e9, NULL},  \
    {"log-every", 0, OPTION_INT, &log_every, "N", "steps between lines of the log (default 100)",  \
     1, 1e9, NULL},                                                                                \
    {"save-every", 0, OPTION_INT, &save_every, "N", "steps between checkpoints (default 50000)",   \
     1, 1e12, NULL},                                                                               \
    {"keep", 0, OPTION_INT, &keep, "N", "checkpoints kept (default 3)", 1, 1e6, NULL},             \
    {"max-skips", 0, OPTION_INT, &max_skips, "N",                                                  \
     "give up after N steps in a row that are not finite (default 100)", 1, 1e9, NULL},            \
    {"sample-every", 0, OPTION_INT, &sample_every, "N",                                            \
     "steps between sheets of pictures (default 0: none)", 0, 1e12, NULL},                         \
    {"sample-count", 0, OPTION_INT, &sample_count, "N", "pictures of a sheet (default 16)", 1,     \
     4096, NULL},                                                                                  \
    {"vae", 0, OPTION_STRING, &vae, "FILE",                                                        \
     "autoencoder of the pictures (default: the one that made the latents)", 0, 0, NULL},          \
    {"valid", 0, OPTION_STRING, &valid, "SHARD", "log the loss of these latents, too", 0, 0,       \
     NULL},                                                                                        \
    {"valid-every", 0, OPTION_INT, &valid_every, "N", "steps between that (default 1000)", 1,      \
     1e12, NULL},                                                                                  \
    {"valid-count", 0, OPTION_INT, &valid_count, "N", "of at most N latents (default 1024)", 1,    \
     1 << 24, NULL},                                                                               \
    {"memory", 0, OPTION_SIZE, &memory, "SIZE", "for latents read ahead (default 1G)", 0, 0,       \
     NULL},                                                                                        \
    {"cache", 0, OPTION_FLAG, &cache, NULL, "keep all latents in memory", 0, 0, NULL},             \
    {"partial", 0, OPTION_FLAG, &partial, NULL, "shards of a set may be missing", 0, 0, NULL},     \
    {"shard-optimizer", 0, OPTION_FLAG, &shard_optimizer, NULL,                                    \
     "each rank keeps a part of the optimizer's state", 0, 0, NULL}
// clang-format on
static const struct option settings[] = {SETTINGS, OPTION_END};

static double minutes;
static const char *folder = "run", *init;
static bool resume, accept_data, dry_run;
static const struct option options[] = {
    SETTINGS,
    {"minutes", 0, OPTION_FLOAT, &minutes, "X", "stop, saved, after X minutes", 0, 1e9, NULL},
    {"run", 'r', OPTION_STRING, &folder, "FOLDER", "checkpoints and log go here (default run)", 0,
     0, NULL},
    {"resume", 0, OPTION_FLAG, &resume, NULL,
     "go on from the newest checkpoint in FOLDER, if there is one", 0, 0, NULL},
    {"accept-data", 0, OPTION_FLAG, &accept_data, NULL,
     "resume although the data is not what it was", 0, 0, NULL},
    {"init", 0, OPTION_STRING, &init, "FILE", "start from these weights (fine-tune)", 0, 0, NULL},
    {"dry-run", 0, OPTION_FLAG, &dry_run, NULL, "only read the latents, and tell how fast", 0, 0,
     NULL},
    TOOL_OPTION_THREADS,
    TOOL_OPTION_DEVICE,
    TOOL_OPTIONS_COMMON,
    OPTION_END};
static const struct tool_info info = {"dit-train", "[OPTION]... [SHARD]... < LATENTS",
                                      "Train a Diffusion Transformer on a stream of latents.",
                                      options};

// Ends the program if what was called has set an error.
static void check(int rc)
{
    if (rc < 0)
        tool_fail();
}

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
    check(ranks_check(t->ranks, t->latents ? 0 : -1));
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
    check(ranks_check(t->ranks, here && !t->preview ? -1 : 0));
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
        check(training_dry_run(&t, (uint64_t)steps, (uint64_t)epochs));
        latents_close(t.latents);
        ranks_close(t.ranks);
        return tool_finish();
    }

    struct dit_file from = {0};
    int resumed = training_open_folder(&t, folder, resume, &from);
    check(resumed);
    if (resumed) {
        bool limited = steps || epochs;
        check(settings_read(settings, from.weights.metadata) < 0 ? error_prefix("%s", from.path)
                                                                 : 0);
        if (limited)
            steps = epochs = 0;
        shards = tool_start(argc, argv, &info); // again: what it says comes before the settings
    } else if (init) {
        struct dit_hints hints = {.heads = (size_t)heads, .other_data = true};
        check(ranks_check(t.ranks, dit_file_open(&from, init, &hints)));
    }
    const struct dit_file *source = from.path ? &from : NULL;
    set_wishes(&t);
    t.one_pass = !steps && !epochs && (resumed ? training_was_one_pass(&from) : !minutes);
    open_data(&t, shards);
    if (!resumed) // a file is read again and again
        t.one_pass = latents_shape(t.latents)->records == 0;

    t.device = tool_open_device();
    check(ranks_check(t.ranks, t.device ? 0 : -1));
    check(ranks_join(t.ranks, t.device));
    check(training_check_same(&t));
    tool_catch_signals();
    struct dit_config config = {.depth = (size_t)depth,
                                .hidden = (size_t)hidden,
                                .heads = (size_t)heads,
                                .patch = (size_t)patch,
                                .classes = classes   ? (size_t)classes
                                           : resumed ? from.config.classes
                                                     : 0};
    check(training_choose_config(&config, t.latents, model, source));
    make_preview(&t, &config);
    check(training_plan_memory(&t, &config, recompute >= 0));
    micro_batch = (int64_t)t.how.micro_batch; // as checkpoints remember them
    recompute = (int)(t.how.mode - DIT_TRAIN);
    t.trainer = trainer_new(t.device, &config, &t.how, t.ranks);
    check(ranks_check(t.ranks, t.trainer ? 0 : -1));
    check(resumed ? training_resume(&t, source) : training_start(&t, source));
    t.last_step = training_last_step(&t, (uint64_t)steps, (uint64_t)epochs);
    check(training_describe(&t));
    check(training_run(&t));

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
