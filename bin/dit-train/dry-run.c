// Measures a step of the model that would be trained, without a folder or a checkpoint.
// SPDX-License-Identifier: MIT
#include "bin/dit-train/training.h"
#include "lib/base/clock.h"

#define STEPS 2      // that are timed, after a first one
#define FLOPS 2e11   // of a step on a CPU: seconds
#define HOUR  3600.0 // seconds

// The samples of a rank that are enough to measure on.
static size_t choose_rows(const struct training *t)
{
    size_t most = t->settings.micro_batch, rows = (size_t)(FLOPS / t->flops);
    if (t->device->backend->memory_free || rows > most)
        return most;
    return rows ? rows : 1;
}

// Takes steps on the first rows of the batch. *seconds is the mean of those that are timed.
static int time_steps(struct training *t, double *seconds)
{
    struct trainer_stats stats;
    double start = 0;
    for (uint64_t step = 0; step <= STEPS; step++) {
        if (ranks_check(t->ranks,
                        trainer_send(t->trainer, t->batch.mean, t->batch.std, t->batch.labels)) < 0)
            return -1;
        if (step == 1)
            start = clock_seconds();
        trainer_begin(t->trainer, step);
        if (trainer_finish(t->trainer, &stats) < 0)
            return -1;
    }
    *seconds = (clock_seconds() - start) / STEPS;
    return 0;
}

static void report_step(const struct training *t, const struct dit_config *config, double seconds,
                        size_t memory)
{
    const double hours = seconds * (double)t->last_step / HOUR;
    char model[96], whole[64] = "";
    dit_config_text(config, model, sizeof model);
    if (t->last_step)
        snprintf(whole, sizeof whole, ", and %llu take %.3g hours",
                 (unsigned long long)t->last_step, hours);
    tool_note("%s: a step of %zu samples takes about %.3g s (%.3g images/s)%s; %.2f GB of memory, "
              "and up to %.2f GB for latents; %s",
              model, t->settings.batch, seconds, (double)t->settings.batch / seconds, whole,
              (double)memory * 1e-9, (double)latents_memory(t->latents) * 1e-9,
              t->device->description);
}

int training_time_step(struct training *t)
{
    struct dit_config config = {0};
    double seconds;
    if (training_choose_config(t, &config) < 0 || training_choose_end(t) < 0 ||
        training_plan_memory(t, &config) < 0)
        return -1;
    t->flops = 3 * dit_forward_flops(&config);
    // All ranks take as many rows, whose time is that of more of them in turn.
    struct trainer_settings few = t->settings;
    const size_t rows = choose_rows(t), ranks = (size_t)ranks_size(t->ranks);
    few.micro_batch = rows;
    few.batch = rows * ranks;
    t->trainer = trainer_new(t->device, &config, &few, t->ranks);
    if (ranks_check(t->ranks, t->trainer ? 0 : -1) < 0 || training_start(t) < 0 ||
        time_steps(t, &seconds) < 0)
        return -1;
    report_step(t, &config, seconds * (double)t->settings.batch / (double)few.batch,
                trainer_memory_needed(t->device, &config, &t->settings, t->ranks));
    return 0;
}
