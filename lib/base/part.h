// One of several equal parts of a job, which --part I/N selects. SPDX-License-Identifier: MIT
#ifndef DIT_PART_H
#define DIT_PART_H

#include <stdint.h>

struct part {
    uint64_t index, count; // index from 0; {0, 1} is everything
};

#endif
