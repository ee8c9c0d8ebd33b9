// A training run: data, model and folder brought together; what dit-train does between its options
// and its end. SPDX-License-Identifier: MIT
//
// Every rank has one. What they do together, such as ending because of an error of one of them, is
// agreed within: all come to the same end.
#ifndef DIT_TRAINING_H
#define DIT_TRAINING_H

#include "bin/dit-train/checkpoints.h"
#include "bin/dit-train/preview.h"
#include "bin/dit-train/run-folder.h"
#include "formats/latents/latents.h"
#include "formats/weights/dit-file.h"
#include "lib/model/ranks.h"
#include "lib/model/trainer.h"
#include "lib/tool/tool.h"

// The records of a step, in host memory: a rank's share of the batch.
struct training_batch {
    float *mean, *std;
    int64_t *labels;
    enum { BATCH_NONE, BATCH_SENT, BATCH_SHORT, BATCH_FAILED } state;
    struct error error; // of BATCH_FAILED
};

// Since the last line of the log.
struct training_sums {
    double loss, mse, vb, grad_norm; // of the steps that were not skipped
    uint64_t steps, skipped;
    uint64_t skips_in_a_row; // also before it
};

struct training {
    // What is wanted.
    const struct option *settings; // kept in each checkpoint's metadata
    struct trainer_settings how;
    size_t keep;
    uint64_t log_every, save_every, sample_every, valid_every, max_skips; // 0: never
    double minutes;                                                       // 0: no limit
    bool accept_data; // other data than before is no error on resuming

    // What is at work.
    struct ranks *ranks;
    struct run_folder run; // open on rank 0; elsewhere its path alone
    struct latents *latents;
    struct device *device;
    struct trainer *trainer;
    struct preview *preview; // rank 0's, or NULL
    struct checkpoints *checkpoints;

    bool one_pass;      // over a pipe, now or when it was begun
    uint64_t position;  // in the data, after the last step
    uint64_t step;      // steps done
    uint64_t last_step; // 0: as the end of the data says
    bool stopped;       // by a signal, on one rank at least
    struct training_batch batch;
    struct training_sums sums;
    uint64_t steps_timed; // since `start`
    double start;         // of what the next line's rates are of
    double lr;            // of the last step
    bool log_failed;      // a line could not be written
    double flops, peak;   // of a step, per sample; FLOP/s of all devices, 0 if not known
};

// training-plan.c: before the first step.
// The sizes in *config are taken where they are not 0; else those of `from` (weights to start from,
// or NULL), else those of the model named; the shape and the classes are the data's.
int training_choose_config(struct dit_config *config, const struct latents *latents,
                           const char *model, const struct dit_file *from);
// Chooses how->micro_batch where it is 0 and how->mode unless it is given: on a CPU micro-batches
// of 2 GiB of activations and light recomputing, on a GPU what fits its free memory. All ranks get
// rank 0's. -1 with an error (64) that says what would fit.
int training_plan_memory(struct training *training, const struct dit_config *config,
                         bool mode_given);
// The number of the last step for these limits (0: not given); 0 where only the end of the data
// says it.
uint64_t training_last_step(const struct training *training, uint64_t steps, uint64_t epochs);
// 0 if all ranks hold the same settings, data and kind of device. -1 with an error.
int training_check_same(const struct training *training);
// Says what is trained, and where; writes config.json and opens the log.
int training_describe(struct training *training);

// training-state.c: beginning and going on.
// Opens the folder and in *from the checkpoint to go on from: the newest one that is whole. 1; 0 if
// there is none, -1 with an error.
int training_open_folder(struct training *training, const char *folder, bool resume,
                         struct dit_file *from);
// New weights, or those of `from` (NULL: none), as the model's and their average.
int training_start(struct training *training, const struct dit_file *from);
// Whether the checkpoint is of a training by one pass over a pipe.
bool training_was_one_pass(const struct dit_file *from);
// The state of a checkpoint, and the place in the data.
int training_resume(struct training *training, const struct dit_file *from);
// What a checkpoint says of the training; NULL with an error, and on ranks that write none.
json_t *training_metadata(const struct training *training);

// training-data.c: the records of the steps.
int training_batch_init(struct training *training);
void training_batch_free(struct training *training);
// Reads the rank's share of the next batch and sends it to the trainer; training->batch.state says
// what came of it.
void training_read(struct training *training);
// Reads what training would until the step (0: one pass), and reports how fast that went.
int training_dry_run(struct training *training, uint64_t steps, uint64_t epochs);

// training-log.c: what it tells.
// Counts a step; warns of one that was skipped.
void training_count(struct training *training, const struct trainer_stats *stats);
// A line for people and one for programs, of the means since the last, with the loss of held-out
// records where it is due. -1 with an error after which the weights can't be trusted.
int training_log(struct training *training, bool last);
// Pictures of the averaged weights; -1 as above, those that can't be made are told of.
int training_sample(struct training *training);

// training-loop.c
// The steps that are left; it ends saved, also where it fails because of the data. -1 with an
// error.
int training_run(struct training *training);

#endif
