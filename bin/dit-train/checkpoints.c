// Copies the trainer's arrays, writes them from a thread, retries, and reports.
// SPDX-License-Identifier: MIT
#include "bin/dit-train/checkpoints.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define PAUSE_MAX 60 // seconds between attempts

// What happens after a failure.
#define RETRIES_LATER  "training goes on, and saving will be retried"
#define RETRIES_AT_END "training has ended, and waits until the checkpoint can be written"

struct checkpoints {
    struct run_folder *run;
    struct trainer *trainer;
    struct ranks *ranks;
    bool sharded;
    struct keep_rule rule;
    const struct layout *layout;
    float *values;          // (largest tensor): receives a tensor from the trainer
    uint64_t step;          // of the last save, done or tried
    double saved_at;        // when that began, on the clock
    bool failed;            // that save failed
    double pause, retry_at; // seconds; retry_at on the clock

    size_t arrays; // of the trainer
    float *copy;   // (arrays,layout->size), or NULL before the first
    uint64_t updates;
    json_t *metadata;
    pthread_t thread;
    bool writing; // the thread was started and not yet joined
    atomic_bool done;
    int rc; // the thread's result
    struct error error;
};

struct checkpoints *checkpoints_new(struct run_folder *run, struct trainer *trainer,
                                    struct ranks *ranks, bool sharded, struct keep_rule rule,
                                    uint64_t step)
{
    struct checkpoints *c = mem_new(1, sizeof *c);
    if (!c)
        return NULL;
    c->run = run;
    c->trainer = trainer;
    c->ranks = ranks;
    c->sharded = sharded && ranks_size(ranks) > 1;
    c->rule = rule;
    c->layout = dit_get_layout(trainer_model(trainer));
    c->arrays = trainer_arrays(trainer);
    c->step = step;
    c->saved_at = clock_seconds();
    c->values = mem_new(layout_largest(c->layout), sizeof *c->values);
    if (c->values)
        return c;
    free(c);
    return NULL;
}

// Schedules the next attempt, and warns of the first failure.
static void report_failure(struct checkpoints *c, const char *what)
{
    if (c->pause == 0)
        tool_warn("%s; %s", error_message(), what);
    c->pause = c->pause == 0 ? 1 : c->pause * 2 < PAUSE_MAX ? c->pause * 2 : PAUSE_MAX;
    c->retry_at = clock_seconds() + c->pause;
}

// Says whether the checkpoint of c->step was saved. `what` happens if not.
static void report_save(struct checkpoints *c, int rc, const char *what)
{
    char *path = run_folder_checkpoint(c->run, c->step);
    if (rc == 0) {
        tool_note("saved %s", path ? path : "");
        c->pause = 0;
    } else {
        report_failure(c, what);
    }
    c->failed = rc < 0;
    free(path);
}

// Waits for the thread and reports.
static void join_writer(struct checkpoints *c)
{
    if (!c->writing)
        return;
    pthread_join(c->thread, NULL);
    c->writing = false;
    json_decref(c->metadata);
    if (c->rc < 0)
        error_restore(&c->error);
    report_save(c, c->rc, RETRIES_LATER);
}

void checkpoints_free(struct checkpoints *c)
{
    if (!c)
        return;
    join_writer(c);
    free(c->copy);
    free(c->values);
    free(c);
}

uint64_t checkpoints_step(const struct checkpoints *c)
{
    return c->step;
}

double checkpoints_age(const struct checkpoints *c)
{
    return clock_seconds() - c->saved_at;
}

bool checkpoints_retry(struct checkpoints *c)
{
    if (c->writing && atomic_load(&c->done))
        join_writer(c);
    return c->failed && clock_seconds() >= c->retry_at;
}

// False if there is no memory for it.
static bool allocate_copy(struct checkpoints *c)
{
    size_t n, bytes;
    if (!c->copy && size_mul(c->arrays, c->layout->size, &n) &&
        size_mul(n, sizeof *c->copy, &bytes) && bytes < mem_available())
        c->copy = mem_new(n, sizeof *c->copy);
    if (!c->copy)
        tool_detail("training pauses while the checkpoint is written: there is no memory for a "
                    "copy of the arrays");
    return c->copy;
}

static float *copy_at(const struct checkpoints *c, enum trainer_array array,
                      const struct param *param)
{
    return c->copy + (size_t)array * c->layout->size + param->offset;
}

static int copy_arrays(struct checkpoints *c)
{
    for (size_t array = 0; array < c->arrays; array++)
        for (size_t i = 0; i < c->layout->n_params; i++) {
            const struct param *param = &c->layout->params[i];
            if (trainer_get(c->trainer, array, param, copy_at(c, array, param)) < 0)
                return -1;
        }
    c->updates = trainer_updates(c->trainer);
    return 0;
}

static const float *get_from_copy(void *user, enum trainer_array array, const struct param *param)
{
    return copy_at(user, array, param);
}

// How far writing straight from the trainer has come.
struct live_arrays {
    struct trainer *trainer;
    float *values; // (largest tensor)
    size_t got;    // parameters, over all arrays
    bool failed;
};

static const float *get_from_trainer(void *user, enum trainer_array array,
                                     const struct param *param)
{
    struct live_arrays *live = user;
    live->got++;
    live->failed = trainer_get(live->trainer, array, param, live->values) < 0;
    return live->failed ? NULL : live->values;
}

static struct dit_source
make_source(const struct checkpoints *c, uint64_t updates,
            const float *(*get)(void *, enum trainer_array, const struct param *), void *user)
{
    const struct trainer_settings *settings = trainer_get_settings(c->trainer);
    return (struct dit_source){.more = settings->more,
                               .n_more = settings->n_more,
                               .config = dit_get_config(trainer_model(c->trainer)),
                               .layout = c->layout,
                               .updates = updates,
                               .get = get,
                               .user = user};
}

static void *write_copy(void *arg)
{
    struct checkpoints *c = arg;
    struct dit_source source = make_source(c, c->updates, get_from_copy, c);
    c->rc = run_folder_save(c->run, c->step, &c->rule, &source, c->metadata);
    if (c->rc < 0)
        error_save(&c->error);
    atomic_store(&c->done, true);
    return NULL;
}

// The other ranks are blocked in trainer_get: joins them, from parameter number `from` on, and
// discards the values.
static int join_trainer_get(struct checkpoints *c, size_t from)
{
    size_t n = c->layout->n_params;
    for (size_t i = c->sharded ? from : c->arrays * n; i < c->arrays * n; i++)
        if (trainer_get(c->trainer, (enum trainer_array)(i / n), &c->layout->params[i % n],
                        c->values) < 0)
            return -1;
    return 0;
}

// *lost: the trainer's arrays can't be trusted.
static int write_from_trainer(struct checkpoints *c, json_t *metadata, bool *lost)
{
    struct live_arrays live = {.trainer = c->trainer, .values = c->values};
    struct error error;
    struct dit_source source = make_source(c, trainer_updates(c->trainer), get_from_trainer, &live);
    int rc = run_folder_save(c->run, c->step, &c->rule, &source, metadata);
    json_decref(metadata);
    *lost = live.failed;
    if (rc == 0)
        return 0;
    error_save(&error);
    if (!*lost)
        *lost = join_trainer_get(c, live.got) < 0;
    return *lost ? -1 : error_restore(&error);
}

int checkpoints_save(struct checkpoints *c, uint64_t step, json_t *metadata)
{
    if (c->writing && !atomic_load(&c->done))
        tool_detail("waiting for the checkpoint of step %llu to be written",
                    (unsigned long long)c->step);
    join_writer(c);
    c->step = step;
    c->saved_at = clock_seconds();
    if (ranks_rank(c->ranks) > 0)
        return join_trainer_get(c, 0);
    if (!allocate_copy(c)) {
        bool lost;
        int rc = write_from_trainer(c, metadata, &lost);
        if (lost)
            return -1;
        report_save(c, rc, RETRIES_LATER);
        return 0;
    }
    if (copy_arrays(c) < 0) {
        json_decref(metadata);
        return -1;
    }
    c->metadata = metadata;
    atomic_store(&c->done, false);
    c->writing = pthread_create(&c->thread, NULL, write_copy, c) == 0;
    if (!c->writing) { // no thread: write it here
        write_copy(c);
        json_decref(metadata);
        report_save(c, c->rc < 0 ? error_restore(&c->error) : 0, RETRIES_LATER);
    }
    return 0;
}

// Waits for the next attempt, or for a signal.
static void pause_until_retry(const struct checkpoints *c)
{
    double seconds = c->pause ? c->retry_at - clock_seconds() : 0;
    if (seconds > 0) {
        struct timespec pause = {.tv_sec = (time_t)seconds};
        pause.tv_nsec = (long)(1e9 * (seconds - (double)pause.tv_sec));
        nanosleep(&pause, NULL);
    }
}

// One attempt to write the log and the last checkpoint. *again: something is left to be written. -1
// if the trainer's arrays can't be trusted.
static int try_to_finish(struct checkpoints *c, const json_t *metadata, bool *again)
{
    bool first = ranks_rank(c->ranks) == 0, lost = false;
    *again = false;
    if (ranks_any(c->ranks, first && c->failed)) {
        if (first)
            report_save(c, write_from_trainer(c, json_deep_copy(metadata), &lost), RETRIES_AT_END);
        else
            lost = join_trainer_get(c, 0) < 0;
        if (ranks_check(c->ranks, lost ? -1 : 0) < 0)
            return -1;
    }
    if (first && !c->failed && run_folder_flush(c->run) < 0)
        report_failure(c, RETRIES_AT_END);
    *again = ranks_any(c->ranks, first && c->pause);
    return 0;
}

int checkpoints_finish(struct checkpoints *c, uint64_t step, json_t *metadata)
{
    bool again = true;
    int rc = 0;
    join_writer(c);
    c->failed = c->failed || c->step != step;
    c->step = step;
    c->pause = 0; // so that a failure is told once more
    while (rc == 0 && again) {
        pause_until_retry(c);
        rc = try_to_finish(c, metadata, &again);
    }
    json_decref(metadata);
    return rc;
}
