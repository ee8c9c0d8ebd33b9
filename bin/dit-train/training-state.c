// How a run starts or resumes, and what its checkpoints remember. SPDX-License-Identifier: MIT
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/dit-train/description.h"
#include "bin/dit-train/training.h"
#include "lib/base/mem.h"

// Keys of a checkpoint's metadata.
#define FILES       "shards"    // what latents_describe says
#define SINCE_LOG   "since_log" // the learning rate and struct training_sums
#define RANKS       "ranks"
#define SKIP_WINDOW "skip_window" // the losses and gradients that --skip-z compares with
#define FOLDER      "folder"      // run_folder_id, if there are paths among the settings

// Opens a checkpoint; -1 with an error if it is damaged or cut short.
static int open_checkpoint(struct dit_file *file, const char *path)
{
    uint64_t number;
    if (dit_file_open(file, path, NULL) < 0)
        return -1;
    if (dit_file_check(file) == 0 && dit_file_number(file, "step", &number) == 0 &&
        dit_file_number(file, "position", &number) == 0)
        return 0;
    dit_file_close(file);
    return -1;
}

// Whether the last error says that the checkpoint is damaged or gone. One that can't be read now,
// for want of permissions or because a disk fails, is not given up for an older one.
static bool is_lost(const char *path)
{
    return error_status() == STATUS_DATA || (access(path, F_OK) < 0 && errno == ENOENT);
}

// Opens the first of the list that is whole, and warns of those before it.
static int open_newest(struct dit_file *file, char **list, char path[PATH_MAX])
{
    for (size_t i = 0; list[i]; i++) {
        if (open_checkpoint(file, list[i]) == 0) {
            snprintf(path, PATH_MAX, "%s", list[i]);
            return 0;
        }
        if (!is_lost(list[i]))
            return -1;
        if (list[i + 1])
            tool_warn("%s; going back to %s", error_message(), list[i + 1]);
        else if (i > 0)
            return error_set(STATUS_DATA, "%s; no checkpoint is left", error_message());
        else
            return error_set(STATUS_DATA, "%s; there is no other checkpoint", error_message());
    }
    return 0;
}

static int open_folder(struct training *t, char path[PATH_MAX])
{
    const char *folder = t->options->run;
    if (run_folder_open(&t->run, folder) < 0)
        return -1;
    char **list = run_folder_list(&t->run);
    int rc = list ? 0 : -1;
    if (list && list[0] && !t->options->resume)
        rc = error_set(STATUS_USAGE,
                       "%s already holds a training; continue it with --resume, or choose another "
                       "folder with --run",
                       folder);
    else if (list)
        rc = open_newest(&t->source, list, path);
    run_folder_free_list(list);
    return rc;
}

int training_open_folder(struct training *t)
{
    char path[PATH_MAX] = "";
    bool first = ranks_rank(t->ranks) == 0;
    t->run = (struct run_folder){.path = t->options->run, .lock = -1, .log = -1};
    if (ranks_check(t->ranks, first ? open_folder(t, path) : 0) < 0)
        return -1;
    ranks_broadcast(t->ranks, path, sizeof path);
    t->resumed = path[0];
    return ranks_check(t->ranks, first || !t->resumed ? 0 : dit_file_open(&t->source, path, NULL));
}

// Whether the weights to start from know other classes than the model, and says so.
static bool has_new_classes(const struct training *t, const struct dit_config *model)
{
    const struct dit_file *from = &t->source;
    const struct description source = description_of_weights(from);
    struct description latents;
    const bool had = !from->config.no_null_class, has = !model->no_null_class;
    const char *kept = had && has ? ", except for the null class" : "";
    if (has && !had)
        tool_note("%s has no null class: one is added", from->path);
    if (from->config.classes != model->classes)
        tool_note("%s has %zu classes; the class table is initialized anew%s", from->path,
                  from->config.classes, kept);
    else if (description_of_latents(&latents, "the latents", t->latents, model) < 0 ||
             description_compare_classes(&source, &latents) < 0)
        tool_note("%s; the class table is initialized anew%s", error_message(), kept);
    else
        return false;
    return true;
}

static int make_weights(const struct training *t, float *weights)
{
    const struct dit_file *from = &t->source;
    const struct layout *layout = dit_get_layout(trainer_model(t->trainer));
    const struct dit_config *model = dit_get_config(trainer_model(t->trainer));
    if (!weights)
        return -1;
    dit_init_weights(layout, t->settings.seed, weights);
    if (!from->path)
        return 0;
    if (dit_file_initial_weights(from, model, layout, has_new_classes(t, model), weights) < 0)
        return -1;
    size_t side = model->input_size;
    if (dit_file_has_own_positions(from))
        tool_warn("%s has its own table of positions; training uses DiT's instead", from->path);
    if (from->config.input_size != side)
        tool_note("%s was made for latents of %zux%zu; the table of positions is computed anew",
                  from->path, from->config.input_size, from->config.input_size);
    return 0;
}

int training_start(struct training *t)
{
    size_t n = dit_get_layout(trainer_model(t->trainer))->size;
    float *weights = mem_new(n, sizeof *weights);
    int rc = ranks_check(t->ranks, make_weights(t, weights));
    if (rc == 0)
        trainer_set_weights(t->trainer, weights);
    free(weights);
    return rc;
}

static uint64_t fingerprint_of(const struct dit_file *file)
{
    const char *text = weights_get(&file->weights, "fingerprint");
    return text ? strtoull(text, NULL, 16) : 0;
}

// Who offers a folder to others can't know the number that it will get where they put it.
bool training_was_here(const struct training *t)
{
    const char *text = weights_get(&t->source.weights, FOLDER);
    uint64_t id = text ? strtoull(text, NULL, 10) : 0;
    bool here = ranks_rank(t->ranks) == 0 && id && id == run_folder_id(&t->run);
    ranks_broadcast(t->ranks, &here, sizeof here); // rank 0 alone has the folder open
    return here;
}

bool training_was_one_pass(const struct dit_file *checkpoint)
{
    return fingerprint_of(checkpoint) == 0;
}

// Fails if the data has changed, unless that is accepted. Data from a pipe can't be checked.
static int check_same_data(const struct training *t)
{
    const struct dit_file *from = &t->source;
    uint64_t fingerprint = fingerprint_of(from);
    const char *files = weights_get(&from->weights, FILES);
    if (fingerprint == 0 || fingerprint == latents_fingerprint(t->latents))
        return 0;
    if (!files || latents_compare(t->latents, files) == 0)
        error_set(STATUS_DATA, "not the same data");
    error_prefix("%s", from->path);
    if (!t->options->accept_data)
        return error_set(STATUS_DATA, "%s (--accept-data continues with the data as it is now)",
                         error_message());
    tool_warn("%s", error_message());
    return 0;
}

// Goes to a position; in a pipe by reading up to it.
static int seek_position(struct latents *latents, uint64_t position)
{
    if (latents_shape(latents)->records)
        return latents_seek(latents, position);
    if (latents_skip(latents, position) < 0)
        return -1;
    uint64_t at = latents_position(latents);
    return at == position
               ? 0
               : error_set(STATUS_DATA,
                           "the data ends after %llu latents, training stopped after %llu",
                           (unsigned long long)at, (unsigned long long)position);
}

static int restore_sums(struct training *t)
{
    const struct dit_file *from = &t->source;
    const char *text = weights_get(&from->weights, SINCE_LOG);
    struct training_sums *s = &t->sums;
    unsigned long long steps, skipped, in_a_row;
    if (!text)
        return 0;
    if (sscanf(text, "%la %la %la %la %la %llu %llu %llu", &t->lr, &s->loss, &s->mse, &s->vb,
               &s->grad_norm, &steps, &skipped, &in_a_row) != 8)
        return error_set(STATUS_DATA, "%s: metadata " SINCE_LOG " is \"%.40s\", expected 8 numbers",
                         from->path, text);
    s->steps = steps;
    s->skipped = skipped;
    s->skips_in_a_row = in_a_row;
    return 0;
}

static int restore_window(struct training *t)
{
    const char *text = weights_get(&t->source.weights, SKIP_WINDOW);
    if (t->settings.skip_z == 0 || !text || outlier_parse(trainer_window(t->trainer), text) == 0)
        return 0;
    return error_prefix("%s: metadata " SKIP_WINDOW, t->source.path);
}

static int save_window(const struct training *t, json_t *metadata)
{
    if (t->settings.skip_z == 0)
        return 0;
    char *text = outlier_text(trainer_window(t->trainer));
    int rc = text ? json_object_set_new(metadata, SKIP_WINDOW, json_string(text)) : -1;
    free(text);
    return rc;
}

static void note_other_ranks(const struct training *t)
{
    const struct dit_file *from = &t->source;
    const char *text = weights_get(&from->weights, RANKS);
    int before = text ? atoi(text) : 1, now = ranks_size(t->ranks);
    if (before != now)
        tool_note("%s was trained on %d rank%s, and now there %s %d: data and noise keep their "
                  "order, but sums are rounded differently",
                  from->path, before, before == 1 ? "" : "s", now == 1 ? "is" : "are", now);
}

static int restore_position(struct training *t)
{
    const struct dit_file *from = &t->source;
    if (dit_file_number(from, "step", &t->step) < 0 ||
        dit_file_number(from, "position", &t->position) < 0 || restore_sums(t) < 0 ||
        restore_window(t) < 0 || check_same_data(t) < 0)
        return -1;
    return seek_position(t->latents, t->position);
}

int training_resume(struct training *t)
{
    if (ranks_check(t->ranks, restore_position(t)) < 0)
        return -1;
    note_other_ranks(t);
    if (ranks_check(t->ranks, dit_file_restore(&t->source, t->trainer)) < 0)
        return -1;
    if (ranks_rank(t->ranks) > 0)
        return 0;
    const struct keep_rule rule = training_keep_rule(t);
    return run_folder_prune(&t->run, &rule, t->step);
}

static json_t *number_text(uint64_t number)
{
    return json_sprintf("%llu", (unsigned long long)number);
}

static json_t *files_text(const struct latents *latents)
{
    json_t *files = latents_describe(latents);
    char *text = files ? json_dumps(files, JSON_COMPACT) : NULL;
    json_t *value = text ? json_string(text) : NULL;
    json_decref(files);
    free(text);
    return value;
}

json_t *training_metadata(const struct training *t)
{
    if (ranks_rank(t->ranks) > 0)
        return NULL;
    const struct training_sums *s = &t->sums;
    uint64_t fingerprint = t->one_pass ? 0 : latents_fingerprint(t->latents);
    // The stream's metadata is passed on: classes, autoencoder, image size, history; but not what
    // describes the file alone, or would be taken for this program's. It is copied, as the thread
    // that writes the checkpoint will use it.
    json_t *metadata = json_deep_copy(latents_schema(t->latents)->metadata), *value;
    const char *key;
    void *next;
    json_object_foreach_safe(metadata, next, key, value)
    {
        if (strcmp(key, "count") == 0 || strcmp(key, "version") == 0 ||
            strncmp(key, "shard.", 6) == 0 || strncmp(key, "setting.", 8) == 0 ||
            strcmp(key, FOLDER) == 0 || strcmp(key, SKIP_WINDOW) == 0)
            json_object_del(metadata, key);
    }
    int rc = train_options_save(metadata);
    rc |= json_object_set_new(metadata, "kind", json_string("dit-checkpoint"));
    rc |= json_object_set_new(metadata, "format", json_string("pt")); // for PyTorch's readers
    rc |= dit_objective_save(&t->settings.loss.objective, metadata);
    rc |= json_object_set_new(metadata, "step", number_text(t->step));
    rc |= json_object_set_new(metadata, "position", number_text(t->position));
    rc |= json_object_set_new(metadata, "ema_start",
                              json_sprintf("%.17g", trainer_ema_start(t->trainer)));
    rc |= json_object_set_new(metadata, "fingerprint",
                              json_sprintf("%016llx", (unsigned long long)fingerprint));
    rc |= json_object_set_new(metadata, FILES, files_text(t->latents));
    rc |= save_window(t, metadata);
    if (train_options_have_paths())
        rc |= json_object_set_new(metadata, FOLDER, number_text(run_folder_id(&t->run)));
    rc |= json_object_set_new(metadata, RANKS, number_text((uint64_t)ranks_size(t->ranks)));
    rc |= json_object_set_new(metadata, SINCE_LOG,
                              json_sprintf("%a %a %a %a %a %llu %llu %llu", t->lr, s->loss, s->mse,
                                           s->vb, s->grad_norm, (unsigned long long)s->steps,
                                           (unsigned long long)s->skipped,
                                           (unsigned long long)s->skips_in_a_row));
    if (rc == 0)
        return metadata;
    json_decref(metadata);
    error_set(STATUS_INTERNAL, "no memory for a checkpoint's metadata");
    return NULL;
}
