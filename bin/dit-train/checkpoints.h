// The checkpoints of a training on their way to the disk. SPDX-License-Identifier: MIT
//
// Those of a training that goes on are written by a thread, from a copy of the arrays. One that
// can't be written is told of, and due again later; training goes on. The last one is written from
// the trainer itself, which takes no memory.
#ifndef DIT_CHECKPOINTS_H
#define DIT_CHECKPOINTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bin/dit-train/run-folder.h"

struct checkpoints;

// run (of rank 0) and trainer must outlive it. `sharded`: each rank has a part of the arrays alone,
// so that all take part in what is collective then. `step`: what there is already. NULL with an
// error.
struct checkpoints *checkpoints_new(const struct run_folder *run, struct trainer *trainer,
                                    struct ranks *ranks, bool sharded, size_t keep, uint64_t step);
void checkpoints_free(struct checkpoints *checkpoints); // waits for the thread; NULL is fine

uint64_t checkpoints_step(const struct checkpoints *checkpoints); // that is or was to be saved last
// Saves the state after a step; waits where the one before is still being written. Takes the
// metadata (rank 0's; NULL on others). Collective if sharded. -1 with the device's error.
int checkpoints_save(struct checkpoints *checkpoints, uint64_t step, json_t *metadata);
// Whether one that could not be written is to be tried again. Once a step: it also tells how the
// thread has ended.
bool checkpoints_retry(struct checkpoints *checkpoints);
// Saves the state with which training ends, unless that is done. Takes the metadata. Collective. -1
// with an error.
int checkpoints_finish(struct checkpoints *checkpoints, uint64_t step, json_t *metadata);

#endif
