// Worker threads for pipelines: jobs run in parallel, results come back in the order of submission.
// For files and streams; kernels share loops (lib/base/team.h). SPDX-License-Identifier: MIT
#ifndef DIT_POOL_H
#define DIT_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct pool;

// Starts threads >= 1 workers. At most `window` >= 1 jobs may be submitted and not yet collected.
// NULL with an error.
struct pool *pool_new(size_t threads, size_t window);

// Runs work(job) on a worker. Blocks while the window is full, so a thread that both submits and
// collects must ask pool_full first. -1 with an error after pool_close.
int pool_submit(struct pool *pool, void (*work)(void *job), void *job);

// Whether a job must be collected before another can be submitted.
bool pool_full(struct pool *pool);

enum pool_wait {
    POOL_POLL,           // don't wait: NULL if the job is not done
    POOL_WAIT,           // wait for a submitted job: NULL if none is left
    POOL_WAIT_UNTIL_END, // wait for jobs to be submitted, too: NULL after pool_close and the last
                         // job
};
// Takes the oldest job that has not been collected out of the pool, when its work is done.
// POOL_WAIT_UNTIL_END is for a thread that only collects.
void *pool_collect(struct pool *pool, enum pool_wait wait);

// Says that no more jobs will be submitted, which ends POOL_WAIT_UNTIL_END after the last job.
void pool_close(struct pool *pool);

// Waits for the running jobs and stops the workers. Jobs that were not collected, begun or not, are
// passed to `drop`, which may be NULL. pool may be NULL.
void pool_free(struct pool *pool, void (*drop)(void *job));

#endif
