// dit-train: latents -> weights. SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "formats/settings.h"
#include "formats/training.h"
#include "lib/mem.h"
#include "lib/tool-device.h"
#include "lib/tool.h"

static const char *model = "DiT-S/2";
static int64_t depth, hidden, heads, patch, classes,
    batch = 256, micro_batch, warmup, steps, epochs, log_every = 100, save_every = 50000, keep = 3,
    max_skips = 100;
static double lr = 1e-4, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay, clip,
              ema_decay = 0.9999, class_dropout = 0.1;
static uint64_t memory = (uint64_t)1 << 30;
static int recompute = -1;
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
     "save memory by computing again (default none; a GPU: none or light)", 0, 0,                  \
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
    {"memory", 0, OPTION_SIZE, &memory, "SIZE", "for latents read ahead (default 1G)", 0, 0, NULL}
// clang-format on
static const struct option settings[] = {SETTINGS, OPTION_END};

static double minutes;
static const char *folder = "run", *init;
static bool resume;
static const struct option options[] = {
    SETTINGS,
    {"minutes", 0, OPTION_FLOAT, &minutes, "X", "stop, saved, after X minutes", 0, 1e9, NULL},
    {"run", 'r', OPTION_STRING, &folder, "FOLDER", "checkpoints and log go here (default run)", 0,
     0, NULL},
    {"resume", 0, OPTION_FLAG, &resume, NULL,
     "go on from FOLDER/latest.safetensors, if it is there", 0, 0, NULL},
    {"init", 0, OPTION_STRING, &init, "FILE", "start from these weights (fine-tune)", 0, 0, NULL},
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

static struct trainer_settings make_settings(struct device *device, const struct dit_config *config)
{
    struct trainer_settings made = {
        .seed = tool.seed,
        .batch = (size_t)batch,
        .micro_batch = (size_t)(micro_batch < batch ? micro_batch : batch),
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
    };
    check(training_plan_memory(device, config, &made, recompute >= 0));
    micro_batch = (int64_t)made.micro_batch; // as checkpoints remember them
    recompute = (int)(made.mode - DIT_TRAIN);
    return made;
}

// The number of the last step; 0 where only the end of the data says it.
static uint64_t choose_last_step(const struct training *t)
{
    uint64_t records = latents_shape(t->latents)->records, B = (uint64_t)batch;
    uint64_t last = (uint64_t)steps;
    if (records == 0)
        return 0;
    if (epochs) {
        uint64_t end = ((uint64_t)epochs * records + B - 1) / B;
        last = steps && last < end ? last : end;
    }
    return last ? last : t->one_pass ? records / B : 400000;
}

// The loop, from `step` on; it ends saved, also where it fails because of the data.
static void train(struct training *t, uint64_t step, uint64_t last)
{
    struct training_batch data;
    double until = training_seconds() + 60 * minutes;
    uint64_t saved = step;
    int rc = 0;
    check(training_batch_init(&data, t));
    progress_start("steps", minutes == 0 && last > step ? last - step : 0);
    t->start = training_seconds();
    while (rc == 0 && (last == 0 || step < last) && !tool_signal_stop()) {
        struct trainer_stats stats;
        if (training_read(t, &data) == 0) { // what is left of the one pass fills no batch
            if (step == 0)
                rc = error_set(STATUS_DATA, "%ld latents in all; a batch takes %zu (--batch)",
                               data.now.got, t->batch);
            break;
        }
        if (training_step(t, step, step + 1 == last, &data, &stats) < 0) {
            rc = -1;
            break;
        }
        training_count(t, ++step, &stats);
        progress_add(1);
        progress_text("loss %.4f", stats.loss);
        if (t->skips_in_a_row >= (uint64_t)max_skips)
            rc =
                error_set(STATUS_DATA, "%llu steps in a row were not finite: lower --lr, or --clip",
                          (unsigned long long)t->skips_in_a_row);
        if (step % (uint64_t)log_every == 0)
            check(training_log(t, step));
        if (step % (uint64_t)save_every == 0 || tool_signal_save()) {
            check(training_save(t, step));
            saved = step;
        }
        if (minutes > 0 && training_seconds() >= until)
            break;
    }
    progress_finish();
    struct error error;
    error_save(&error);
    if (rc < 0 && error.status != STATUS_DATA)
        tool_fail(); // the device's weights can't be trusted
    if (t->steps)
        check(training_log(t, step));
    if (saved != step)
        check(training_save(t, step));
    if (rc < 0) {
        error_restore(&error);
        tool_fail();
    }
    training_batch_free(&data);
}

int main(int argc, char **argv)
{
    char **shards = tool_start(argc, argv, &info), *latest;
    struct training t = {.settings = settings};
    struct dit_file from = {0};
    check(run_folder_open(&t.run, folder));
    latest = run_folder_latest(&t.run);
    if (latest && !resume)
        tool_usage_error("%s holds a training already; --resume goes on with it, --run names "
                         "another folder",
                         folder);
    if (latest) {
        bool limited = steps || epochs;
        check(dit_file_open(&from, latest, NULL));
        check(settings_read(settings, from.weights.metadata) < 0 ? error_prefix("%s", latest) : 0);
        if (limited)
            steps = epochs = 0;
        shards = tool_start(argc, argv, &info); // again: what it says comes before the settings
    } else if (init) {
        check(dit_file_open(&from, init,
                            &(struct dit_hints){.heads = (size_t)heads, .other_data = true}));
    }
    const struct dit_file *source = from.path ? &from : NULL;

    t.one_pass = !steps && !epochs && (latest ? training_was_one_pass(&from) : !minutes);
    t.batch = (size_t)batch;
    t.keep = (size_t)keep;
    struct latents_options reading = {.seed = tool.seed,
                                      .memory = memory,
                                      .one_pass = t.one_pass,
                                      .threads = (size_t)tool.threads};
    struct device *device = tool_open_device();
    if (!device || !(t.latents = latents_open(shards, &reading)))
        tool_fail();
    tool_catch_signals();
    if (!latest) // a file is read again and again
        t.one_pass = latents_shape(t.latents)->records == 0;

    struct dit_config config = {.depth = (size_t)depth,
                                .hidden = (size_t)hidden,
                                .heads = (size_t)heads,
                                .patch = (size_t)patch,
                                .classes = classes  ? (size_t)classes
                                           : latest ? from.config.classes
                                                    : 0};
    check(training_choose_config(&config, t.latents, model, source));
    struct trainer_settings trainer_settings = make_settings(device, &config);
    if (!(t.trainer = trainer_new(device, &config, &trainer_settings, NULL)))
        tool_fail();
    t.asynchronous = device->backend->wait;
    uint64_t step = 0;
    check(latest ? training_resume(&t, source, &step) : training_start(&t, source, tool.seed));
    check(run_folder_open_log(&t.run, step));

    char text[96];
    dit_config_text(&config, text, sizeof text);
    t.flops = 3 * dit_forward_flops(&config);
    t.peak = device_peak_flops(device);
    tool_note("%s, %zu parameters, %zu classes, latents %zux%zux%zu; batch %zu in parts of %zu; "
              "%.2f GB; %s",
              text, dit_get_layout(trainer_model(t.trainer))->size, config.classes, config.channels,
              config.input_size, config.input_size, t.batch, trainer_settings.micro_batch,
              (double)trainer_memory(t.trainer) * 1e-9, device->description);
    uint64_t last = choose_last_step(&t);
    if (last && step >= last)
        tool_note("nothing is left to do: %s stands at step %llu of %llu", folder,
                  (unsigned long long)step, (unsigned long long)last);
    train(&t, step, last);

    bool stopped = tool_signal_stop();
    trainer_free(t.trainer);
    latents_close(t.latents);
    run_folder_close(&t.run);
    device_close(device);
    if (source) // not before: settings may point into its metadata
        dit_file_close(&from);
    free(latest);
    int status = tool_finish();
    return stopped ? STATUS_STOPPED : status;
}
