// The loop over the steps: reading ahead, logging, saving, and how it ends.
// SPDX-License-Identifier: MIT
#include <math.h>

#include "bin/dit-train/training.h"
#include "lib/base/clock.h"

// How a run continues or ends.
enum fate {
    GOES_ON,
    STOPS, // may be resumed
    ENDS,  // complete, or out of data
    FAILS, // with an error, but the weights are good and are saved
    LOST,  // with an error that leaves the weights unusable
};

static enum fate save_checkpoint(struct training *t)
{
    json_t *metadata = training_metadata(t);
    if (!metadata && ranks_rank(t->ranks) == 0)
        return LOST;
    return checkpoints_save(t->checkpoints, t->step, metadata) < 0 ? LOST : GOES_ON;
}

static bool is_save_due(const struct training *t)
{
    const double minutes = t->options->save_minutes;
    if (checkpoints_step(t->checkpoints) == t->step)
        return false;
    return t->step % (uint64_t)t->options->save_every == 0 ||
           (minutes > 0 && checkpoints_age(t->checkpoints) >= 60 * minutes);
}

struct keep_rule training_keep_rule(const struct training *t)
{
    return (struct keep_rule){(size_t)t->options->keep, (uint64_t)t->options->save_every,
                              t->options->ema_snapshots};
}

// Decides what comes next, the same on all ranks: what any of them has a reason for.
static enum fate decide_fate(struct training *t, double until)
{
    enum { FAILED, SIGNALLED, TIME_OVER, SAVE, REASONS };
    double reasons[REASONS] = {
        [FAILED] = t->batch.state == BATCH_FAILED,
        [SIGNALLED] = tool_signal_stop(),
        [TIME_OVER] = t->options->minutes > 0 && clock_seconds() >= until,
        [SAVE] = checkpoints_retry(t->checkpoints) + tool_signal_save() + is_save_due(t),
    };
    ranks_sum(t->ranks, reasons, REASONS);
    t->stopped = reasons[SIGNALLED] > 0;
    if (reasons[FAILED] > 0) {
        ranks_check(t->ranks, t->batch.state == BATCH_FAILED ? error_restore(&t->batch.error) : 0);
        return FAILS;
    }
    if (t->batch.state == BATCH_SHORT) // the rest of the pipe fills no batch
        return ENDS;
    if (t->stopped || reasons[TIME_OVER] > 0)
        return STOPS;
    return reasons[SAVE] > 0 ? save_checkpoint(t) : GOES_ON;
}

static bool is_sheet_due(const struct training *t, bool last)
{
    uint64_t every = (uint64_t)t->options->sample_every;
    return every && (last || t->step % every == 0);
}

// A device that works by itself leaves the host free to read the next batch meanwhile.
static enum fate take_step(struct training *t)
{
    struct trainer_stats stats;
    bool last = t->step + 1 == t->last_step;
    trainer_begin(t->trainer, t->step);
    t->batch.state = BATCH_NONE;
    if (t->device->backend->wait && !last)
        training_read(t);
    if (trainer_finish(t->trainer, &stats) < 0)
        return LOST;
    t->step++;
    t->position += t->settings.batch;
    training_count(t, &stats);
    progress_add(1);

    if ((last || t->step % (uint64_t)t->options->log_every == 0) && training_log(t, last) < 0)
        return LOST;
    if (isfinite(t->fid))
        progress_text("loss %.4f, FID %.2f", stats.loss, t->fid);
    else
        progress_text("loss %.4f", stats.loss);
    if (is_sheet_due(t, last) && training_sample(t) < 0)
        return LOST;
    if (t->sums.skips_in_a_row >= (uint64_t)t->options->max_skips) {
        error_set(STATUS_DATA, "%llu steps in a row were not finite; try a lower --lr, or --clip",
                  (unsigned long long)t->sums.skips_in_a_row);
        t->sums.skips_in_a_row = 0; // so that --resume may try as many again
        return FAILS;
    }
    return last ? ENDS : GOES_ON;
}

// Writes the last line of the log and the last checkpoint.
static int finish_run(struct training *t, enum fate fate)
{
    int rc = 0;
    const bool lacks = t->batch.state == BATCH_SHORT && training_log_lacks(t);
    if (fate == ENDS && (t->sums.steps || lacks) && training_log(t, true) < 0)
        return -1;
    if (fate != ENDS && t->steps_timed && training_log_partial(t) < 0)
        return -1;
    if (fate == ENDS && t->batch.state == BATCH_SHORT && !is_sheet_due(t, false) &&
        is_sheet_due(t, true) && training_sample(t) < 0)
        return -1;
    json_t *metadata = training_metadata(t);
    if (!metadata && ranks_rank(t->ranks) == 0)
        rc = -1;
    if (ranks_check(t->ranks, rc) < 0)
        return -1;
    return ranks_check(t->ranks, checkpoints_finish(t->checkpoints, t->step, metadata));
}

// Steps until the run ends.
static enum fate take_steps(struct training *t)
{
    double until = clock_seconds() + 60 * t->options->minutes;
    enum fate fate = GOES_ON;
    progress_start("steps", t->options->minutes == 0 ? t->last_step : 0);
    progress_skip(t->step);
    t->start = clock_seconds();
    while (fate == GOES_ON) {
        if (t->batch.state == BATCH_NONE)
            training_read(t);
        fate = decide_fate(t, until);
        if (fate == GOES_ON)
            fate = take_step(t);
    }
    progress_finish();
    return fate;
}

int training_run(struct training *t)
{
    struct error error;
    enum fate fate = ENDS;
    t->checkpoints = checkpoints_new(&t->run, t->trainer, t->ranks, t->settings.shard_optimizer,
                                     training_keep_rule(t), t->step);
    if (ranks_check(t->ranks, t->checkpoints ? 0 : -1) < 0 || training_batch_init(t) < 0)
        return -1;
    if (t->last_step && t->step >= t->last_step)
        tool_note("nothing to do: %s is at step %llu of %llu", t->run.path,
                  (unsigned long long)t->step, (unsigned long long)t->last_step);
    else
        fate = take_steps(t);
    error_save(&error); // if it FAILS or is LOST
    int rc = fate == LOST ? -1 : finish_run(t, fate);
    if (rc == 0 && fate == FAILS)
        rc = error_restore(&error);
    else if (rc < 0)
        error_save(&error);
    checkpoints_free(t->checkpoints);
    training_batch_free(t);
    return rc < 0 ? error_restore(&error) : 0;
}
