// dit-train: latents -> weights. SPDX-License-Identifier: MIT
//
// main brings together what a training takes: options, the run's folder, weights to start from,
// data, a device, a model. training.h lists the parts that it calls, each in a file of its own.
// With several ranks, every process runs all of this; an error of one ends all of them.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/dit-train/training.h"
#include "formats/weights/inception-file.h"
#include "lib/base/io.h"
#include "lib/tool/tool-device.h"
#include "lib/tool/tool.h"

static void apply_options(struct training *t)
{
    tool_check(ranks_check(t->ranks, train_options_check_evaluation()));
    t->settings = train_options_trainer(t->options);
    if (t->options->batch < ranks_size(t->ranks))
        tool_usage_error("--batch %lld is too small for %d ranks: each takes a part of it",
                         (long long)t->options->batch, ranks_size(t->ranks));
    if (t->settings.lr_schedule == LR_CONSTANT && train_options_given("lr-final"))
        tool_usage_error("--lr-final needs --lr-schedule cosine or wsd: a constant learning rate "
                         "does not fall");
}

// What is learned: what the options say and the weights to start from.
static int choose_loss(struct training *t)
{
    struct objective asked = train_options_objective(t->options);
    struct loss_settings *loss = &t->settings.loss;
    if (t->source.path) {
        loss->objective = t->source.objective;
        if (objective_join(&loss->objective, t->source.path, &asked, "the options") < 0)
            return -1;
    } else {
        loss->objective = asked;
    }
    if (objective_complete(&loss->objective) < 0 ||
        train_options_averages(t->options, &t->settings) < 0)
        return -1;
    return train_options_loss(t->options, loss);
}

static void open_data(struct training *t, char **shards)
{
    if (ranks_size(t->ranks) > 1 && (!shards[0] || strcmp(shards[0], "-") == 0))
        tool_usage_error(
            "%d ranks cannot share standard input; give the latents' files as arguments",
            ranks_size(t->ranks));
    struct latents_options reading = {.seed = tool.seed,
                                      .memory = t->options->memory,
                                      .one_pass = t->one_pass,
                                      .cache = t->options->cache,
                                      .partial = t->options->partial,
                                      .threads = (size_t)tool.threads};
    t->latents = latents_open(shards, &reading);
    tool_check(ranks_check(t->ranks, t->latents ? 0 : -1));
}

static void open_init(struct training *t)
{
    const struct train_options *o = t->options;
    struct dit_hints hints = {
        .heads = (size_t)o->heads, .other_data = true, .objective = train_options_objective(o)};
    tool_check(ranks_check(t->ranks, dit_file_open(&t->source, o->init, &hints)));
}

// Opens the run's folder and the weights to start from: the newest checkpoint there, whose settings
// then join the command line's, or --init's file, or none.
static void open_source(struct training *t)
{
    const struct train_options *o = t->options;
    tool_check(training_open_folder(t));
    if (t->resumed) {
        int rc = train_options_restore(t->source.weights.metadata);
        if (rc == 0 && !training_was_here(t))
            rc = train_options_check_paths();
        if (rc < 0)
            error_prefix("%s", t->source.path);
        tool_check(ranks_check(t->ranks, rc));
    } else if (o->init) {
        open_init(t);
    }
    apply_options(t);
    tool_check(ranks_check(t->ranks, choose_loss(t)));
}

// A pipe is read once, unless a limit is given; files are read again and again.
static void open_training_data(struct training *t, char **shards)
{
    const struct train_options *o = t->options;
    t->one_pass =
        !o->steps && !o->epochs && (t->resumed ? training_was_one_pass(&t->source) : !o->minutes);
    open_data(t, shards);
    if (!t->resumed)
        t->one_pass = latents_shape(t->latents)->records == 0;
}

static void open_device(struct training *t)
{
    t->device = tool_open_device();
    tool_check(ranks_check(t->ranks, t->device ? 0 : -1));
    tool_check(ranks_join(t->ranks, t->device));
    tool_check(training_check_same(t));
}

// Sample images and held-out losses, made by rank 0, and images for FID, made by all ranks, if they
// are wanted.
static void make_preview(struct training *t, const struct dit_config *config)
{
    const struct train_options *o = t->options;
    const bool first = ranks_rank(t->ranks) == 0, sheets = first && o->sample_every;
    struct preview_settings wanted = {.seed = tool.seed,
                                      .draw = sheets || o->eval_every,
                                      .samples = sheets ? (size_t)o->sample_count : 0,
                                      .vae = o->vae,
                                      .valid = first && train_options_validate(o) ? o->valid : NULL,
                                      .valid_records = (size_t)o->valid_count,
                                      .loss = t->settings.loss,
                                      .threads = (size_t)tool.threads};
    bool here = wanted.draw || wanted.valid;
    if (here)
        t->preview = preview_new(t->device, config, t->latents, &wanted);
    tool_check(ranks_check(t->ranks, here && !t->preview ? -1 : 0));
}

static void make_evaluation(struct training *t)
{
    const struct train_options *o = t->options;
    const struct evaluation_settings settings = {.reference = o->reference,
                                                 .inception = inception_file_choose(o->inception),
                                                 .count = (size_t)o->eval_count,
                                                 .steps = (size_t)o->eval_steps,
                                                 .threads = (int)tool.threads};
    if (!o->eval_every)
        return;
    t->evaluation = evaluation_new(t->device, t->preview, t->ranks, &settings);
    tool_check(ranks_check(t->ranks, t->evaluation ? 0 : -1));
}

static void make_trainer(struct training *t)
{
    struct dit_config config = {0};
    tool_check(training_choose_config(t, &config));
    tool_check(training_choose_end(t));
    make_preview(t, &config);
    make_evaluation(t);
    tool_check(training_plan_memory(t, &config));
    t->trainer = trainer_new(t->device, &config, &t->settings, t->ranks);
    tool_check(ranks_check(t->ranks, t->trainer ? 0 : -1));
}

static void close_all(struct training *t)
{
    monitor_close(t->monitor);
    evaluation_free(t->evaluation);
    preview_free(t->preview);
    trainer_free(t->trainer);
    latents_close(t->latents);
    run_folder_close(&t->run);
    device_close(t->device);
    if (t->source.path) // last, as settings may point into its metadata
        dit_file_close(&t->source);
    ranks_close(t->ranks);
}

// The weights that training would start from, found without opening the run's folder.
static void open_source_for_dry_run(struct training *t)
{
    const struct train_options *o = t->options;
    char *latest = path_join(o->run, "latest.safetensors");
    t->run = (struct run_folder){.lock = -1, .log = -1};
    tool_check(latest ? 0 : -1);
    t->resumed = o->resume && access(latest, F_OK) == 0;
    free(latest);
    if (t->resumed) {
        tool_check(dit_file_open(&t->source, o->run, NULL));
        tool_check(train_options_restore(t->source.weights.metadata));
    } else if (o->init) {
        open_init(t);
    }
}

static int dry_run(struct training *t, char **shards)
{
    open_source_for_dry_run(t);
    apply_options(t);
    tool_check(ranks_check(t->ranks, choose_loss(t)));
    t->one_pass = t->options->epochs <= 1 && !t->options->steps;
    open_data(t, shards);
    tool_catch_signals("stopping; again to stop at once");
    tool_check(training_dry_run(t));
    if (!tool_signal_stop()) {
        open_device(t);
        tool_check(training_time_step(t));
    }
    training_batch_free(t);
    close_all(t);
    return tool_finish();
}

int main(int argc, char **argv)
{
    struct training t = {.ranks = ranks_open(argc, argv, &tool.rank), .fid = NAN};
    char **shards = train_options_parse(&t.options, argc, argv);
    if (!t.ranks)
        tool_fail();
    if (t.options->dry_run)
        return dry_run(&t, shards);

    open_source(&t);
    open_training_data(&t, shards);
    open_device(&t);
    tool_catch_signals("saving after this step; interrupt again to stop at once");
    make_trainer(&t);
    tool_check(t.resumed ? training_resume(&t) : training_start(&t));
    tool_check(training_describe(&t));
    tool_check(training_run(&t));
    close_all(&t);
    int status = tool_finish();
    return t.stopped ? STATUS_STOPPED : status;
}
