// What a run reports: lines of the log, held-out losses, sample images.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bin/dit-train/training.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/model/device-check.h"

void training_count(struct training *t, const struct trainer_stats *stats)
{
    struct training_sums *s = &t->sums;
    s->steps++;
    t->steps_timed++;
    t->lr = stats->lr;
    if (stats->outlier) {
        s->skipped++;
        s->skips_in_a_row = 0;
        tool_warn("step %llu: loss %.7g or gradient norm %.7g is more than %g standard deviations "
                  "above its last %d: skipped",
                  (unsigned long long)t->step, stats->loss, stats->grad_norm, t->settings.skip_z,
                  OUTLIER_WINDOW);
        return;
    }
    if (stats->skipped) {
        s->skipped++;
        s->skips_in_a_row++;
        tool_warn("step %llu: loss %g or gradient norm %g is not finite: skipped",
                  (unsigned long long)t->step, stats->loss, stats->grad_norm);
        return;
    }
    s->skips_in_a_row = 0;
    s->loss += stats->loss;
    s->mse += stats->mse;
    s->vb += stats->vb;
    s->grad_norm += stats->grad_norm;
}

// What a look at the averaged weights finds; NAN where it was not due, and on ranks over 0.
struct findings {
    double valid, fid;
};

// Whether this rank takes part in reading the averaged weights for rank 0 alone, which uses them:
// if the optimizer is sharded, all ranks hold parts of them.
static bool takes_part(const struct training *t)
{
    return ranks_rank(t->ranks) == 0 || t->settings.shard_optimizer;
}

static struct preview *own_preview(const struct training *t)
{
    return ranks_rank(t->ranks) == 0 ? t->preview : NULL;
}

// Due at the first log line after every `every` steps, and at the last line.
static bool is_due(const struct training *t, bool wanted, int64_t every, bool last)
{
    uint64_t log_every = (uint64_t)t->options->log_every;
    uint64_t before = t->step > log_every ? t->step - log_every : 0;
    return wanted && (last || t->step / (uint64_t)every > before / (uint64_t)every);
}

static bool is_validation_due(const struct training *t, bool last)
{
    return is_due(t, train_options_validate(t->options), t->options->valid_every, last);
}

static bool is_fid_due(const struct training *t, bool last)
{
    return is_due(t, t->evaluation, t->options->eval_every, last);
}

bool training_log_lacks(const struct training *t)
{
    return (is_validation_due(t, true) && !is_validation_due(t, false)) ||
           (is_fid_due(t, true) && !is_fid_due(t, false));
}

static int validate(struct training *t, double *loss)
{
    if (preview_load(own_preview(t), t->trainer, NULL) < 0)
        return -1;
    return own_preview(t) ? preview_validate(t->preview, loss) : 0;
}

// Warns of what could not be made, unless the device failed: then -1.
static int do_without(struct training *t, const char *what)
{
    struct error error;
    error_save(&error);
    if (device_check(t->device) < 0)
        return -1;
    error_restore(&error);
    tool_warn("no %s of step %llu: %s", what, (unsigned long long)t->step, error_message());
    tool.rank.agreed = false; // a later error need not be one that all ranks know
    return 0;
}

static int measure_fid(struct training *t, double *fid)
{
    if (preview_load(t->preview, t->trainer, t->ranks) < 0)
        return -1;
    if (evaluation_run(t->evaluation, fid) < 0)
        return do_without(t, "FID");
    if (isfinite(*fid))
        t->fid = *fid;
    return 0;
}

static int look_at_weights(struct training *t, bool last, struct findings *found)
{
    *found = (struct findings){NAN, NAN};
    if (is_validation_due(t, last) && takes_part(t) && validate(t, &found->valid) < 0)
        return -1;
    return is_fid_due(t, last) ? measure_fid(t, &found->fid) : 0;
}

// Whether the loss has two parts.
static bool has_bound(const struct training *t)
{
    return t->settings.loss.objective.kind != OBJECTIVE_FLOW;
}

static json_t *make_log_line(const struct training *t, double rate, double flops,
                             const struct findings *found, bool partial)
{
    const struct training_sums *s = &t->sums;
    double n = (double)(s->steps - s->skipped);
    uint64_t records = latents_shape(t->latents)->records;
    json_t *line =
        json_pack("{sI sI sI sf sf sf sI}", "step", (json_int_t)t->step, "time",
                  (json_int_t)time(NULL), "images", (json_int_t)t->position, "lr", t->lr,
                  "images_per_second", rate, "flops", flops, "skipped", (json_int_t)s->skipped);
    if (records)
        json_object_set_new(line, "epoch", json_real((double)t->position / (double)records));
    if (t->peak > 0)
        json_object_set_new(line, "peak_share", json_real(flops / t->peak));
    json_object_set_new(line, "memory", json_integer((json_int_t)mem_resident()));
    if (t->device->backend->memory_free)
        json_object_set_new(
            line, "device_memory",
            json_integer((json_int_t)(trainer_memory(t->trainer) + preview_memory(t->preview))));
    if (n > 0) {
        json_object_set_new(line, "loss", json_real(s->loss / n));
        if (has_bound(t)) {
            json_object_set_new(line, "mse", json_real(s->mse / n));
            json_object_set_new(line, "vb", json_real(s->vb / n));
        }
        json_object_set_new(line, "grad_norm", json_real(s->grad_norm / n));
    }
    if (isfinite(found->valid))
        json_object_set_new(line, "valid_loss", json_real(found->valid));
    if (isfinite(found->fid)) {
        json_object_set_new(line, "fid", json_real(found->fid));
        json_object_set_new(line, "fid_images", json_integer(t->options->eval_count));
    }
    if (partial)
        json_object_set_new(line, "partial", json_true());
    return line;
}

static void print_log_line(const struct training *t, double rate, double flops,
                           const struct findings *found)
{
    const struct training_sums *s = &t->sums;
    double n = (double)(s->steps - s->skipped);
    char peak[32] = "", held_out[32] = "", fid[32] = "", parts[64] = "";
    if (has_bound(t))
        snprintf(parts, sizeof parts, "  mse %.4f  vb %.5f", s->mse / n, s->vb / n);
    if (t->peak > 0)
        snprintf(peak, sizeof peak, " (%.0f%% of peak)", 100 * flops / t->peak);
    if (isfinite(found->valid))
        snprintf(held_out, sizeof held_out, "  valid %.4f", found->valid);
    if (isfinite(found->fid))
        snprintf(fid, sizeof fid, "  FID %.2f", found->fid);
    if (n > 0)
        tool_note("step %6llu  loss %.4f%s%s%s  grad %.3f  lr %.2e  %.1f images/s  %.1f GFLOP/s%s",
                  (unsigned long long)t->step, s->loss / n, parts, held_out, fid, s->grad_norm / n,
                  t->lr, rate, flops * 1e-9, peak);
    else if (s->steps == 0)
        tool_note("step %6llu%s%s", (unsigned long long)t->step, held_out, fid);
}

// Writes a line about the `seconds` since t->start.
static void write_line_of_log(struct training *t, double seconds, const struct findings *found,
                              bool partial)
{
    double rate = (double)(t->steps_timed * t->settings.batch) / seconds, flops = rate * t->flops;
    if (t->peak > 0 && flops > t->peak) // other programs took their share while it was measured
        t->peak = flops;
    print_log_line(t, rate, flops, found);
    json_t *line = make_log_line(t, rate, flops, found, partial);
    monitor_log(t->monitor, line);
    bool failed = run_folder_log(&t->run, line) < 0;
    if (failed && !t->log_failed)
        tool_warn("%s; training goes on, and the lines will be written later", error_message());
    t->log_failed = failed;
}

static int check_ranks(const struct training *t)
{
    if (ranks_check_same(t->ranks, STATUS_INTERNAL, "other gradients", &t->sums.grad_norm,
                         sizeof t->sums.grad_norm) < 0)
        return error_prefix("step %llu: the ranks have diverged", (unsigned long long)t->step);
    return 0;
}

int training_log(struct training *t, bool last)
{
    double seconds = clock_seconds() - t->start;
    struct findings found;
    if (check_ranks(t) < 0 || look_at_weights(t, last, &found) < 0)
        return -1;
    if (ranks_rank(t->ranks) == 0)
        write_line_of_log(t, seconds, &found, false);
    t->sums = (struct training_sums){.skips_in_a_row = t->sums.skips_in_a_row};
    t->steps_timed = 0;
    t->start = clock_seconds();
    return 0;
}

int training_log_partial(struct training *t)
{
    if (check_ranks(t) < 0)
        return -1;
    if (ranks_rank(t->ranks) == 0)
        write_line_of_log(t, clock_seconds() - t->start, &(struct findings){NAN, NAN}, true);
    return 0;
}

static int save_samples(struct training *t)
{
    char *path = run_folder_sample(&t->run, t->step);
    struct output *output = path ? run_folder_open_sample(&t->run, path) : NULL;
    int rc = output ? preview_write_samples(t->preview, output) : -1;
    double start = trainer_ema_start(t->trainer);
    if (rc == 0) {
        tool_note("saved %s", path);
        monitor_sheet(t->monitor, t->step, path);
    }
    if (rc == 0 && start > DIT_FILE_START_MAX)
        tool_warn("%.0f%% of the averaged weights, which these pictures show, are still those that "
                  "training began with: --ema-decay %g is slow%s",
                  100 * start, t->settings.ema_decay,
                  t->settings.ema_warmup ? "" : ", and there is no --ema-warmup");
    free(path);
    return rc;
}

int training_sample(struct training *t)
{
    double start = clock_seconds();
    if (takes_part(t) && preview_load(own_preview(t), t->trainer, NULL) < 0)
        return -1;
    if (own_preview(t) && save_samples(t) < 0 && do_without(t, "pictures") < 0)
        return -1;
    t->start += clock_seconds() - start;
    return 0;
}
