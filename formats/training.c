// SPDX-License-Identifier: MIT
#include "formats/training.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "formats/settings.h"
#include "lib/mem.h"

double training_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t count_classes(const struct schema *schema)
{
    const char *text = schema_get(schema, "classes");
    json_t *names = text ? json_loads(text, 0, NULL) : NULL;
    size_t n = json_array_size(names);
    json_decref(names);
    return n;
}

int training_choose_config(struct dit_config *config, const struct latents *latents,
                           const char *model, const struct dit_file *from)
{
    const struct latents_shape *shape = latents_shape(latents);
    struct dit_config base = {0};
    if (from)
        base = from->config;
    else if (dit_config_named(&base, model) < 0)
        return -1;
    if (shape->height != shape->width)
        return error_set(STATUS_DATA, "the latents are %zux%zu, but a DiT takes squares",
                         shape->height, shape->width);
    config->depth = config->depth ? config->depth : base.depth;
    config->hidden = config->hidden ? config->hidden : base.hidden;
    config->heads = config->heads ? config->heads : base.heads;
    config->patch = config->patch ? config->patch : base.patch;
    if (config->classes == 0)
        config->classes = count_classes(latents_schema(latents));
    if (config->classes == 0)
        config->classes = from ? base.classes : 1000; // ImageNet's
    config->channels = shape->channels;
    config->input_size = shape->height;
    return dit_config_check(config);
}

// On a CPU memory is not asked for: micro-batches whose activations stay under 2 GiB are a rule
// that no machine changes, as sums, and so the last bits of the weights, depend on it.
static void plan_on_cpu(struct device *device, const struct dit_config *config,
                        struct trainer_settings *s)
{
    size_t one = dit_memory_needed(device, config, 1, s->mode);
    size_t each = dit_memory_needed(device, config, 2, s->mode) - one, n = s->batch;
    while (n > 1 && n * each > (size_t)2 << 30)
        n = (n + 1) / 2;
    s->micro_batch = s->micro_batch ? s->micro_batch : n;
}

// The fastest that fits the bytes: the largest micro-batch with light recomputing at most;
// computing whole blocks again costs more than smaller ones. False: none does.
static bool plan_within(size_t bytes, struct device *device, const struct dit_config *config,
                        struct trainer_settings *s)
{
    for (size_t n = s->batch;; n = (n + 1) / 2)
        for (int mode = DIT_TRAIN; mode <= (n == 1 ? DIT_TRAIN_BLOCK : DIT_TRAIN_LIGHT); mode++) {
            s->micro_batch = n;
            s->mode = mode;
            if (trainer_memory_needed(device, config, s, NULL) <= bytes)
                return true;
            if (n == 1 && mode == DIT_TRAIN_BLOCK)
                return false;
        }
}

static const char *mode_name(enum dit_mode mode)
{
    return mode == DIT_TRAIN ? "none" : mode == DIT_TRAIN_LIGHT ? "light" : "block";
}

int training_plan_memory(struct device *device, const struct dit_config *config,
                         struct trainer_settings *s, bool mode_given)
{
    if (!device->backend->memory_free) {
        s->mode = mode_given ? s->mode : DIT_TRAIN;
        plan_on_cpu(device, config, s);
        return 0;
    }
    // Some is left for products' working memory and for what allocations are rounded up to.
    size_t available = device->backend->memory_free(device), bytes = available / 16 * 15;
    struct trainer_settings free_choice = *s;
    bool possible = plan_within(bytes, device, config, &free_choice);
    if (!s->micro_batch && !mode_given) {
        *s = free_choice;
    } else if (!s->micro_batch) {
        s->micro_batch = s->batch;
        while (s->micro_batch > 1 && trainer_memory_needed(device, config, s, NULL) > bytes)
            s->micro_batch = (s->micro_batch + 1) / 2;
    } else if (!mode_given) {
        for (s->mode = DIT_TRAIN; s->mode < DIT_TRAIN_BLOCK; s->mode++)
            if (trainer_memory_needed(device, config, s, NULL) <= bytes)
                break;
    }
    size_t needed = trainer_memory_needed(device, config, s, NULL);
    if (needed <= bytes)
        return 0;
    char way_out[96] = "; no choice of these fits";
    if (possible)
        snprintf(way_out, sizeof way_out, "; --micro-batch %zu --recompute %s fits",
                 free_choice.micro_batch, mode_name(free_choice.mode));
    return error_set(STATUS_INTERNAL,
                     "training in micro-batches of %zu with --recompute %s needs %.3g GB, and %s "
                     "has %.3g GB free%s",
                     s->micro_batch, mode_name(s->mode), (double)needed * 1e-9, device->description,
                     (double)available * 1e-9, way_out);
}

int training_start(struct training *t, const struct dit_file *from, uint64_t seed)
{
    const struct layout *layout = dit_get_layout(trainer_model(t->trainer));
    float *weights = mem_new(layout->size, sizeof *weights);
    bool new_classes = false;
    if (!weights)
        return -1;
    dit_init_weights(layout, seed, weights);
    if (from && dit_file_initial_weights(from, layout, weights, &new_classes) < 0) {
        free(weights);
        return -1;
    }
    size_t side = dit_get_config(trainer_model(t->trainer))->input_size;
    if (new_classes)
        tool_note("%s has %zu classes: the class table is made anew", from->path,
                  from->config.classes);
    if (from && dit_file_has_own_positions(from))
        tool_warn("%s has a table of positions of its own; training takes that of a DiT",
                  from->path);
    if (from && from->config.input_size != side)
        tool_note("%s was made for latents of %zux%zu: the table of positions is made anew",
                  from->path, from->config.input_size, from->config.input_size);
    trainer_set_weights(t->trainer, weights);
    free(weights);
    return 0;
}

static uint64_t fingerprint_of(const struct dit_file *file)
{
    const char *text = weights_get(&file->weights, "fingerprint");
    return text ? strtoull(text, NULL, 16) : 0;
}

bool training_was_one_pass(const struct dit_file *from)
{
    return fingerprint_of(from) == 0;
}

// Goes to a position; along the one pass of a pipe, by reading up to there.
static int go_to(struct latents *latents, uint64_t position)
{
    const struct latents_shape *shape = latents_shape(latents);
    if (shape->records)
        return latents_seek(latents, position);
    size_t n = shape->channels * shape->height * shape->width;
    float *values = mem_new(n, 2 * sizeof *values);
    long got = values ? 1 : -1;
    int64_t label;
    while (got > 0 && latents_position(latents) < position)
        got = latents_read(latents, 1, values, shape->spread ? values + n : NULL, &label);
    if (got == 0)
        error_set(STATUS_DATA, "the data ends after %llu latents, training stopped after %llu",
                  (unsigned long long)latents_position(latents), (unsigned long long)position);
    free(values);
    return got > 0 ? 0 : -1;
}

int training_resume(struct training *t, const struct dit_file *from, uint64_t *step)
{
    uint64_t fingerprint = fingerprint_of(from);
    if (dit_file_number(from, "step", step) < 0 ||
        dit_file_number(from, "position", &t->position) < 0)
        return -1;
    if (fingerprint && fingerprint != latents_fingerprint(t->latents))
        tool_warn("the data is not what %s was trained on so far", from->path);
    return go_to(t->latents, t->position) < 0 ? -1 : dit_file_restore(from, t->trainer);
}

static json_t *number_text(uint64_t number)
{
    return json_sprintf("%llu", (unsigned long long)number);
}

int training_save(struct training *t, uint64_t step)
{
    // The stream's own metadata comes along: classes, autoencoder, image size, history.
    json_t *metadata = json_copy(latents_schema(t->latents)->metadata);
    json_object_del(metadata, "count");
    json_object_del(metadata, "version");
    json_object_set_new(metadata, "kind", json_string("dit-checkpoint"));
    json_object_set_new(metadata, "format", json_string("pt")); // what PyTorch's readers ask for
    json_object_set_new(metadata, "step", number_text(step));
    json_object_set_new(metadata, "position", number_text(t->position));
    uint64_t fingerprint = t->one_pass ? 0 : latents_fingerprint(t->latents);
    json_object_set_new(metadata, "fingerprint",
                        json_sprintf("%016llx", (unsigned long long)fingerprint));
    int rc = settings_write(t->settings, metadata);
    if (rc == 0)
        rc = run_folder_save(&t->run, step, t->keep, t->trainer, metadata);
    json_decref(metadata);
    if (rc == 0)
        tool_note("saved %s/%07llu.safetensors", t->run.path, (unsigned long long)step);
    return rc;
}

static int records_init(struct records *r, size_t batch, const struct latents_shape *shape)
{
    size_t n = batch * shape->channels * shape->height * shape->width;
    r->mean = mem_new(n, sizeof *r->mean);
    r->std = shape->spread ? mem_new(n, sizeof *r->std) : NULL;
    r->labels = mem_new(batch, sizeof *r->labels);
    return r->mean && r->labels && (r->std || !shape->spread) ? 0 : -1;
}

int training_batch_init(struct training_batch *data, const struct training *t)
{
    const struct latents_shape *shape = latents_shape(t->latents);
    *data = (struct training_batch){0};
    return records_init(&data->now, t->batch, shape) < 0 ||
                   records_init(&data->next, t->batch, shape) < 0
               ? -1
               : 0;
}

void training_batch_free(struct training_batch *data)
{
    struct records *both[] = {&data->now, &data->next};
    for (size_t i = 0; i < 2; i++) {
        free(both[i]->mean);
        free(both[i]->std);
        free(both[i]->labels);
    }
}

static void read_next(struct training *t, struct training_batch *data)
{
    struct records *r = &data->next;
    r->got = latents_read(t->latents, t->batch, r->mean, r->std, r->labels);
    r->position = latents_position(t->latents);
    data->ahead = true;
}

int training_read(struct training *t, struct training_batch *data)
{
    if (!data->ahead)
        read_next(t, data);
    struct records old = data->now;
    data->now = data->next;
    data->next = old;
    data->ahead = false;
    return data->now.got < 0 || (size_t)data->now.got == t->batch;
}

int training_step(struct training *t, uint64_t step, bool last, struct training_batch *data,
                  struct trainer_stats *stats)
{
    const struct records *r = &data->now;
    if (r->got < 0 || trainer_send(t->trainer, r->mean, r->std, r->labels) < 0)
        return -1;
    trainer_begin(t->trainer, step);
    if (t->asynchronous && !last)
        read_next(t, data);
    t->position = r->position;
    return trainer_finish(t->trainer, stats);
}

void training_count(struct training *t, uint64_t step, const struct trainer_stats *stats)
{
    t->steps++;
    t->lr = stats->lr;
    if (stats->skipped) {
        t->skipped++;
        t->skips_in_a_row++;
        tool_warn("step %llu: loss %g or gradient norm %g is not finite: skipped",
                  (unsigned long long)step, stats->loss, stats->grad_norm);
        return;
    }
    t->skips_in_a_row = 0;
    t->loss += stats->loss;
    t->mse += stats->mse;
    t->vb += stats->vb;
    t->grad_norm += stats->grad_norm;
}

int training_log(struct training *t, uint64_t step)
{
    double n = (double)(t->steps - t->skipped), seconds = training_seconds() - t->start;
    double rate = (double)(t->steps * t->batch) / seconds, flops = rate * t->flops;
    json_t *line =
        json_pack("{sI sf sf sf sI}", "step", (json_int_t)step, "lr", t->lr, "images_per_second",
                  rate, "flops", flops, "skipped", (json_int_t)t->skipped);
    if (t->peak > 0)
        json_object_set_new(line, "peak_share", json_real(flops / t->peak));
    if (n > 0) {
        char peak[32] = "";
        if (t->peak > 0)
            snprintf(peak, sizeof peak, " (%.0f%% of peak)", 100 * flops / t->peak);
        json_object_set_new(line, "loss", json_real(t->loss / n));
        json_object_set_new(line, "mse", json_real(t->mse / n));
        json_object_set_new(line, "vb", json_real(t->vb / n));
        json_object_set_new(line, "grad_norm", json_real(t->grad_norm / n));
        tool_note("step %6llu  loss %.4f  mse %.4f  vb %.5f  grad %.3f  lr %.2e  %.1f images/s  "
                  "%.1f GFLOP/s%s",
                  (unsigned long long)step, t->loss / n, t->mse / n, t->vb / n, t->grad_norm / n,
                  t->lr, rate, flops * 1e-9, peak);
    }
    t->loss = t->mse = t->vb = t->grad_norm = 0;
    t->steps = t->skipped = 0;
    t->start = training_seconds();
    return run_folder_log(&t->run, line);
}
