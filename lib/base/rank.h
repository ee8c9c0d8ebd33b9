// The number of this process among the ranks: the processes that do one job together.
// SPDX-License-Identifier: MIT
#ifndef DIT_RANK_H
#define DIT_RANK_H

#include <stdbool.h>

// A process that runs alone has {0, 1, 0, 1}. "local" counts the ranks on this machine.
struct rank {
    int index, count;
    int local_index, local_count;
    bool agreed; // all ranks know the error that is set: rank 0 reports it for all
};

#endif
