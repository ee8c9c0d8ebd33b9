// What dit-train is asked for: by its command line, and by the checkpoint that it resumes.
// SPDX-License-Identifier: MIT
#ifndef DIT_TRAIN_OPTIONS_H
#define DIT_TRAIN_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/model/trainer.h"

// Each member is the value of the option of its name.
struct train_options {
    // The sizes of the model, which every checkpoint tells by its weights.
    const char *model;                            // NULL: not given
    int64_t depth, hidden, heads, patch, classes; // 0: not given

    // The settings, which are kept in every checkpoint, so that --resume needs none of them again.
    int64_t batch, micro_batch;          // micro_batch 0: not given
    int recompute;                       // none, light, block; -1: not given
    int objective, path, prediction;     // -1: not given
    const char *loss_weight, *timesteps; // NULL: not given
    int lr_schedule;                     // enum lr_schedule; -1: not given
    double lr_final;
    double lr, beta1, beta2, eps, weight_decay, clip, skip_z, class_dropout;
    const char *ema_decay, *ema_power; // ema_power NULL: not given
    bool ema_snapshots;
    int64_t lr_warmup;
    bool ema_warmup;
    int64_t steps, epochs; // 0: not given
    int64_t log_every, save_every, keep, max_skips;
    double save_minutes;                        // 0: never by time
    int64_t sample_every, sample_count;         // sample_every 0: never
    int64_t eval_every, eval_count, eval_steps; // eval_every 0: never
    const char *reference, *inception;
    const char *vae, *valid; // NULL: not given
    int64_t valid_every, valid_count;
    uint64_t memory;
    bool cache, partial, shard_optimizer, tensorboard;
    // --seed, a setting too, is tool.seed.

    // Options of this process alone.
    double minutes;                      // 0: no limit
    const char *run, *init, *prometheus; // the last two NULL: not given
    bool resume, accept_data, dry_run;
};

// Parses the command line over the defaults. Returns the operands, as tool_start does.
char **train_options_parse(struct train_options **options, int argc, char **argv);
// Takes the settings of a checkpoint that the command line does not give. A limit on the command
// line, --steps or --epochs, replaces both of the checkpoint's. Texts point into the metadata. -1
// with an error (65).
int train_options_restore(const json_t *metadata);
// Whether a setting names a file in another folder than the current one.
bool train_options_have_paths(void);
// For a checkpoint that others may have written: -1 with an error (64) if it would make this
// process open a file by such a path, which the command line does not give.
int train_options_check_paths(void);
// -1 with an error (64) if --eval-every lacks what it needs, or is itself missing.
int train_options_check_evaluation(void);
// Adds the settings to a checkpoint's metadata, as "setting.NAME". -1 with an error.
int train_options_save(json_t *metadata);

bool train_options_given(const char *name);                       // by the command line
bool train_options_validate(const struct train_options *options); // held-out losses are wanted
// What the options say of the objective.
struct objective train_options_objective(const struct train_options *options);
// Sets the weight of the loss and the law of the times, for loss->objective, which is complete. -1
// with an error (64).
int train_options_loss(const struct train_options *options, struct loss_settings *loss);
// Sets the averages. -1 with an error (64).
int train_options_averages(const struct train_options *options, struct trainer_settings *settings);
struct trainer_settings train_options_trainer(const struct train_options *options);

#endif
