// A training run: data, model and folder brought together; what dit-train does between its options
// and its loop. SPDX-License-Identifier: MIT
#ifndef DIT_TRAINING_H
#define DIT_TRAINING_H

#include "formats/dit-file.h"
#include "formats/latents.h"
#include "formats/run-folder.h"
#include "lib/tool.h"
#include "lib/trainer.h"

struct training {
    struct run_folder run;
    struct latents *latents;
    struct trainer *trainer;
    const struct option *settings; // kept in each checkpoint's metadata
    size_t batch, keep;
    bool asynchronous; // the device computes while the program goes on
    bool one_pass;     // over a pipe, now or when it was begun
    uint64_t position; // in the data, after the last step
    double flops;      // of a step, per sample
    double peak;       // FLOP/s of the device, measured
    // Since the last line of the log.
    double loss, mse, vb, grad_norm, lr, start;
    uint64_t steps, skipped;
    uint64_t skips_in_a_row;
};

// The sizes in *config are taken where they are not 0; else those of `from` (weights to start from,
// or NULL), else those of the model named; the shape and the classes are the data's.
int training_choose_config(struct dit_config *config, const struct latents *latents,
                           const char *model, const struct dit_file *from);
// Chooses settings->micro_batch where it is 0 and settings->mode unless it is given: on a CPU
// micro-batches of 2 GiB of activations and no recomputing, on a GPU what fits its free memory. -1
// with an error (64) that says what would fit.
int training_plan_memory(struct device *device, const struct dit_config *config,
                         struct trainer_settings *settings, bool mode_given);
// New weights, or those of `from` (NULL: none), as the model's and their average.
int training_start(struct training *training, const struct dit_file *from, uint64_t seed);
// Whether the checkpoint is of a training by one pass over a pipe.
bool training_was_one_pass(const struct dit_file *from);
// The state of a checkpoint, and the place in the data; *step is the next one.
int training_resume(struct training *training, const struct dit_file *from, uint64_t *step);
// Writes a checkpoint after `step` steps.
int training_save(struct training *training, uint64_t step);
// The records of a step, and those of the next, which are read while a GPU works.
struct training_batch {
    struct records {
        float *mean, *std;
        int64_t *labels;
        long got;          // of the batch; -1 with an error
        uint64_t position; // in the data, behind them
    } now, next;
    bool ahead; // next has been read
};
int training_batch_init(struct training_batch *data, const struct training *training);
void training_batch_free(struct training_batch *data);
// 1: there is a whole batch, or an error in its place, which training_step gives; 0: the data ends.
int training_read(struct training *training, struct training_batch *data);
// One step. -1 with an error.
int training_step(struct training *training, uint64_t step, bool last, struct training_batch *data,
                  struct trainer_stats *stats);
// Counts a step; warns of one that was skipped.
void training_count(struct training *training, uint64_t step, const struct trainer_stats *stats);
// A line for people and one for programs, of the means since the last.
int training_log(struct training *training, uint64_t step);
double training_seconds(void); // a steady clock

#endif
