// Clocks for measuring durations. SPDX-License-Identifier: MIT
#ifndef DIT_CLOCK_H
#define DIT_CLOCK_H

#include <time.h>

static inline double clock_read(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
// Seconds since an arbitrary moment; never steps back.
static inline double clock_seconds(void)
{
    return clock_read(CLOCK_MONOTONIC);
}
// Processor time that all threads of the process have used, in seconds.
static inline double processor_seconds(void)
{
    return clock_read(CLOCK_PROCESS_CPUTIME_ID);
}

#endif
