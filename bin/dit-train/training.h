// A training run: its state, and the parts of dit-train that work on it.
// SPDX-License-Identifier: MIT
//
// Every rank has one and calls the same functions. An error of one rank is returned on all, so that
// all end alike.
#ifndef DIT_TRAINING_H
#define DIT_TRAINING_H

#include "bin/dit-train/checkpoints.h"
#include "bin/dit-train/evaluation.h"
#include "bin/dit-train/monitor.h"
#include "bin/dit-train/preview.h"
#include "bin/dit-train/run-folder.h"
#include "bin/dit-train/train-options.h"
#include "formats/latents/latents.h"
#include "formats/weights/dit-file.h"
#include "lib/model/ranks.h"
#include "lib/model/trainer.h"
#include "lib/tool/tool.h"

// This rank's share of the next batch, in host memory.
struct training_batch {
    float *mean, *std;
    int64_t *labels;
    enum {
        BATCH_NONE,  // not read yet
        BATCH_SENT,  // with the trainer
        BATCH_SHORT, // the one pass over a pipe ended within it
        BATCH_FAILED,
    } state;
    struct error error; // of BATCH_FAILED
};

// Sums over the steps since the last line of the log.
struct training_sums {
    double loss, mse, vb, grad_norm; // without skipped steps
    uint64_t steps, skipped;
    uint64_t skips_in_a_row; // also counts those before the line
};

struct training {
    struct train_options *options;
    struct trainer_settings settings; // micro_batch and mode may be chosen by training_plan_memory

    struct ranks *ranks;
    struct run_folder run;  // open on rank 0; other ranks have its path alone
    struct dit_file source; // the weights to start from; its path is NULL if there are none
    bool resumed;           // `source` is a checkpoint of this run
    struct latents *latents;
    struct device *device;
    struct trainer *trainer;
    struct preview *preview; // NULL if nothing is wanted; on ranks over 0 for the evaluation alone
    struct evaluation *evaluation; // NULL if none is wanted
    double fid;                    // the last one; NAN without
    struct checkpoints *checkpoints;
    struct monitor *monitor; // NULL if nobody is told, and on ranks over 0

    bool one_pass;      // over a pipe, now or when the run began
    uint64_t position;  // in the data, after the last step
    uint64_t step;      // steps done
    uint64_t last_step; // 0: when the data ends
    bool stopped;       // by a signal to any rank
    struct training_batch batch;
    struct training_sums sums;
    double start;         // when the rates of the next log line begin
    uint64_t steps_timed; // since then
    double lr;            // of the last step
    bool log_failed;      // the last line could not be written
    double flops;         // of a step, per sample
    double peak;          // FLOP/s of all devices; 0 if unknown
};

// training-plan.c: what is trained, and how it fits the memory.
// Sizes come from the options, else from `source`, else from the named model; shape and classes
// from the data. -1 with an error.
int training_choose_config(const struct training *training, struct dit_config *config);
// Sets last_step. -1 with an error (64) if the schedule of the learning rate depends on it and it
// is not known, or if there is no schedule that an option is for.
int training_choose_end(struct training *training);
// Chooses micro_batch and mode where no option gives them: on a CPU light recomputing and 2 GiB of
// activations, on a GPU what its free memory holds. All ranks get rank 0's. -1 with an error (70)
// that says what would fit.
int training_plan_memory(struct training *training, const struct dit_config *config);
// -1 with an error if the ranks differ in settings, data or kind of device.
int training_check_same(const struct training *training);
// Says what is trained and where, writes config.json, and opens the log and the monitor.
int training_describe(struct training *training);

// training-state.c: how a run starts, and what it remembers.
// Opens the folder, and with --resume the newest checkpoint that is not damaged. -1 with an error.
int training_open_folder(struct training *training);
// Gives the trainer new weights, or those of `source`.
int training_start(struct training *training);
// Whether `source` was written in the run's folder, so that its paths are those that the command
// line gave.
bool training_was_here(const struct training *training);
// Whether the checkpoint was written during one pass over a pipe.
bool training_was_one_pass(const struct dit_file *checkpoint);
// Restores the state of `source` and the position in the data.
int training_resume(struct training *training);
// A checkpoint's metadata. NULL on ranks over 0, which write none; on rank 0 with an error.
json_t *training_metadata(const struct training *training);

// training-data.c: the batches.
int training_batch_init(struct training *training);
void training_batch_free(struct training *training);
// Reads the rank's share of the next batch and sends it to the trainer; batch.state tells the
// result.
void training_read(struct training *training);
// Reads as much as training would, or one pass, and reports the speed. The last batch stays in
// memory.
int training_dry_run(struct training *training);

// dry-run.c: reports the time of a step on the batch that was read last, and the memory that
// training takes. -1 with an error.
int training_time_step(struct training *training);

// training-log.c: what a run reports.
// Counts a step, and warns if it was skipped.
void training_count(struct training *training, const struct trainer_stats *stats);
// Logs the means since the last line, and the held-out loss and FID if they are due. `last`: of the
// run. A FID that can't be computed is a warning. -1 with an error: the weights can't be trusted.
int training_log(struct training *training, bool last);
// Whether held-out loss or FID are due only because the run ends.
bool training_log_lacks(const struct training *training);
// Logs the means since the last line where a run stops between two lines. The line is marked as
// partial, and goes when the run is resumed: the sums go on.
int training_log_partial(struct training *training);
// Writes a sheet of sample images; one that can't be made is a warning. -1 as above.
int training_sample(struct training *training);

// training-loop.c
struct keep_rule training_keep_rule(const struct training *training);
// Does the steps that are left, and saves; also if the data makes it fail. -1 with an error.
int training_run(struct training *training);

#endif
