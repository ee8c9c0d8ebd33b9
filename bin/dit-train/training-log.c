// What a training tells: lines of the log, held-out losses, pictures. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>

#include "bin/dit-train/training.h"
#include "lib/base/clock.h"
#include "lib/model/device-check.h"

void training_count(struct training *t, const struct trainer_stats *stats)
{
    struct training_sums *s = &t->sums;
    s->steps++;
    t->steps_timed++;
    t->lr = stats->lr;
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

// Whether this rank has to do with the averaged weights: rank 0 shows them, but all may be needed
// to get them.
static bool takes_part(const struct training *t)
{
    return ranks_rank(t->ranks) == 0 || t->how.shard_optimizer;
}

// At the last line, and at the first one after every `valid_every` steps.
static bool is_validation_due(const struct training *t, bool last)
{
    uint64_t before = t->step > t->log_every ? t->step - t->log_every : 0;
    return t->valid_every && (last || t->step / t->valid_every > before / t->valid_every);
}

// NAN where it is not due.
static int validate(struct training *t, bool last, double *loss)
{
    *loss = NAN;
    if (!is_validation_due(t, last) || !takes_part(t))
        return 0;
    if (preview_load(t->preview, t->trainer) < 0)
        return -1;
    return t->preview ? preview_validate(t->preview, loss) : 0;
}

static json_t *make_line(const struct training *t, double rate, double flops, double valid)
{
    const struct training_sums *s = &t->sums;
    double n = (double)(s->steps - s->skipped);
    json_t *line =
        json_pack("{sI sf sf sf sI}", "step", (json_int_t)t->step, "lr", t->lr, "images_per_second",
                  rate, "flops", flops, "skipped", (json_int_t)s->skipped);
    if (t->peak > 0)
        json_object_set_new(line, "peak_share", json_real(flops / t->peak));
    if (n > 0) {
        json_object_set_new(line, "loss", json_real(s->loss / n));
        json_object_set_new(line, "mse", json_real(s->mse / n));
        json_object_set_new(line, "vb", json_real(s->vb / n));
        json_object_set_new(line, "grad_norm", json_real(s->grad_norm / n));
    }
    if (isfinite(valid))
        json_object_set_new(line, "valid_loss", json_real(valid));
    return line;
}

static void print_line(const struct training *t, double rate, double flops, double valid)
{
    const struct training_sums *s = &t->sums;
    double n = (double)(s->steps - s->skipped);
    char peak[32] = "", held_out[32] = "";
    if (t->peak > 0)
        snprintf(peak, sizeof peak, " (%.0f%% of peak)", 100 * flops / t->peak);
    if (isfinite(valid))
        snprintf(held_out, sizeof held_out, "  valid %.4f", valid);
    if (n > 0)
        tool_note("step %6llu  loss %.4f  mse %.4f  vb %.5f%s  grad %.3f  lr %.2e  %.1f images/s  "
                  "%.1f GFLOP/s%s",
                  (unsigned long long)t->step, s->loss / n, s->mse / n, s->vb / n, held_out,
                  s->grad_norm / n, t->lr, rate, flops * 1e-9, peak);
}

int training_log(struct training *t, bool last)
{
    double seconds = clock_seconds() - t->start, valid;
    double rate = (double)(t->steps_timed * t->how.batch) / seconds, flops = rate * t->flops;
    if (ranks_check_same(t->ranks, STATUS_INTERNAL, "other gradients", &t->sums.grad_norm,
                         sizeof t->sums.grad_norm) < 0)
        return error_prefix("step %llu: the ranks have come apart", (unsigned long long)t->step);
    if (validate(t, last, &valid) < 0)
        return -1;
    if (ranks_rank(t->ranks) == 0) {
        print_line(t, rate, flops, valid);
        bool failed = run_folder_log(&t->run, make_line(t, rate, flops, valid)) < 0;
        if (failed && !t->log_failed)
            tool_warn("%s; training goes on, and keeps the lines", error_message());
        t->log_failed = failed;
    }
    t->sums = (struct training_sums){.skips_in_a_row = t->sums.skips_in_a_row};
    t->steps_timed = 0;
    t->start = clock_seconds();
    return 0;
}

static int write_samples(struct training *t)
{
    char *path = run_folder_sample(&t->run, t->step);
    int rc = path ? preview_write_samples(t->preview, path) : -1;
    if (rc == 0)
        tool_note("saved %s", path);
    free(path);
    return rc;
}

int training_sample(struct training *t)
{
    double start = clock_seconds();
    if (takes_part(t) && preview_load(t->preview, t->trainer) < 0)
        return -1;
    if (t->preview && write_samples(t) < 0) {
        struct error error;
        error_save(&error);
        if (device_check(t->device) < 0)
            return -1;
        error_restore(&error);
        tool_warn("no pictures of step %llu: %s", (unsigned long long)t->step, error_message());
    }
    t->start += clock_seconds() - start;
    return 0;
}
