// The steps of a training. SPDX-License-Identifier: MIT
#include "bin/dit-train/training.h"
#include "lib/base/clock.h"

// What becomes of a training that can't go on.
enum fate {
    GOES_ON,
    STOPS, // for now
    ENDS,  // it is complete, or the data is
    FAILS, // with an error, but the weights are good
    LOST,  // with an error, and the weights can't be trusted
};

static enum fate save(struct training *t)
{
    json_t *metadata = training_metadata(t);
    if (!metadata && ranks_rank(t->ranks) == 0)
        return LOST;
    return checkpoints_save(t->checkpoints, t->step, metadata) < 0 ? LOST : GOES_ON;
}

static bool is_save_due(const struct training *t)
{
    return t->step % t->save_every == 0 && checkpoints_step(t->checkpoints) != t->step;
}

// All ranks do what one of them has cause to.
static enum fate agree(struct training *t, double until)
{
    enum { FAILED, SIGNALLED, OVER, SAVE, WISHES };
    double wishes[WISHES] = {
        [FAILED] = t->batch.state == BATCH_FAILED,
        [SIGNALLED] = tool_signal_stop(),
        [OVER] = t->minutes > 0 && clock_seconds() >= until,
        [SAVE] = checkpoints_retry(t->checkpoints) | tool_signal_save() | is_save_due(t),
    };
    ranks_sum(t->ranks, wishes, WISHES);
    t->stopped = wishes[SIGNALLED] > 0;
    if (wishes[FAILED] > 0) {
        ranks_check(t->ranks, t->batch.state == BATCH_FAILED ? error_restore(&t->batch.error) : 0);
        return FAILS;
    }
    if (t->batch.state == BATCH_SHORT) // what is left of the one pass fills no batch
        return ENDS;
    if (t->stopped || wishes[OVER] > 0)
        return STOPS;
    return wishes[SAVE] > 0 ? save(t) : GOES_ON;
}

// The next records are read and sent beside the step where the device works by itself.
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
    t->position += t->how.batch;
    training_count(t, &stats);
    progress_add(1);
    progress_text("loss %.4f", stats.loss);

    if ((last || t->step % t->log_every == 0) && training_log(t, last) < 0)
        return LOST;
    if (t->sample_every && t->step % t->sample_every == 0 && training_sample(t) < 0)
        return LOST;
    if (t->sums.skips_in_a_row >= t->max_skips) {
        error_set(STATUS_DATA, "%llu steps in a row were not finite: lower --lr, or --clip",
                  (unsigned long long)t->sums.skips_in_a_row);
        t->sums.skips_in_a_row = 0; // --resume tries as many again
        return FAILS;
    }
    return last ? ENDS : GOES_ON;
}

// The last line of the log and the last checkpoint.
static int finish(struct training *t, enum fate fate)
{
    int rc = 0;
    if (fate == ENDS && t->sums.steps && training_log(t, true) < 0)
        return -1;
    json_t *metadata = training_metadata(t);
    if (!metadata && ranks_rank(t->ranks) == 0)
        rc = -1;
    if (ranks_check(t->ranks, rc) < 0)
        return -1;
    rc = checkpoints_finish(t->checkpoints, t->step, metadata);
    if (ranks_rank(t->ranks) == 0 && rc == 0)
        rc = run_folder_flush(&t->run);
    return ranks_check(t->ranks, rc);
}

// All steps, from one step's records to the next.
static enum fate take_steps(struct training *t)
{
    double until = clock_seconds() + 60 * t->minutes;
    enum fate fate = GOES_ON;
    progress_start("steps", t->minutes == 0 && t->last_step ? t->last_step - t->step : 0);
    t->start = clock_seconds();
    while (fate == GOES_ON) {
        if (t->batch.state == BATCH_NONE)
            training_read(t);
        fate = agree(t, until);
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
    t->checkpoints =
        checkpoints_new(&t->run, t->trainer, t->ranks, t->how.shard_optimizer, t->keep, t->step);
    if (ranks_check(t->ranks, t->checkpoints ? 0 : -1) < 0 || training_batch_init(t) < 0)
        return -1;
    if (t->last_step && t->step >= t->last_step)
        tool_note("nothing is left to do: %s stands at step %llu of %llu", t->run.path,
                  (unsigned long long)t->step, (unsigned long long)t->last_step);
    else
        fate = take_steps(t);
    error_save(&error); // of FAILS and LOST
    int rc = fate == LOST ? -1 : finish(t, fate);
    if (rc == 0 && fate == FAILS)
        rc = error_restore(&error);
    else if (rc < 0)
        error_save(&error);
    checkpoints_free(t->checkpoints);
    training_batch_free(t);
    return rc < 0 ? error_restore(&error) : 0;
}
