// Writes a run's checkpoints while it goes on. SPDX-License-Identifier: MIT
//
// A thread writes each checkpoint from a copy of the trainer's arrays. If it can't be written,
// there is a warning, training goes on, and it is tried again later. The last checkpoint is written
// straight from the trainer, which needs no memory, and is tried until it can be written.
#ifndef DIT_CHECKPOINTS_H
#define DIT_CHECKPOINTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bin/dit-train/run-folder.h"

struct checkpoints;

// `run` (rank 0's; unused on others) and `trainer` must outlive this. `sharded`: the optimizer is,
// so that saving is collective. `step`: that of the checkpoint that exists already. NULL with an
// error.
struct checkpoints *checkpoints_new(struct run_folder *run, struct trainer *trainer,
                                    struct ranks *ranks, bool sharded, struct keep_rule rule,
                                    uint64_t step);
void checkpoints_free(struct checkpoints *checkpoints); // waits for the thread; NULL is fine

uint64_t checkpoints_step(const struct checkpoints *checkpoints); // of the last save, done or tried
double checkpoints_age(const struct checkpoints *checkpoints);    // seconds since then
// Starts to save the state after a step; waits if the last checkpoint is still being written. Drops
// the reference to the metadata (NULL on ranks over 0). Collective if sharded. -1 with the device's
// error.
int checkpoints_save(struct checkpoints *checkpoints, uint64_t step, json_t *metadata);
// Whether a failed save is due to be tried again. To be called once a step, as this also reports
// what the thread has written.
bool checkpoints_retry(struct checkpoints *checkpoints);
// Writes the lines of the log that could not be written yet, and saves the state with which
// training ends, unless that was saved. Tries until it can, however long that takes: a second
// signal ends the process. Drops the reference to the metadata. Collective. -1 with the device's
// error.
int checkpoints_finish(struct checkpoints *checkpoints, uint64_t step, json_t *metadata);

#endif
