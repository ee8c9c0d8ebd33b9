// Which of several processes that work as one this process is. SPDX-License-Identifier: MIT
#ifndef DIT_RANK_H
#define DIT_RANK_H

#include <stdbool.h>

// Alone: {0, 1, 0, 1}. "local" counts the processes on this machine.
struct rank {
    int index, count;
    int local_index, local_count;
    bool agreed; // all ranks know the error that is set: rank 0 reports it for all
};

#endif
