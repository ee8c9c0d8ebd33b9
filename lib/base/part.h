// One of several equal parts of a work, as --part I/N names it. SPDX-License-Identifier: MIT
#ifndef DIT_PART_H
#define DIT_PART_H

#include <stdint.h>

struct part {
    uint64_t index, count; // index from 0; {0, 1} is everything
};

#endif
