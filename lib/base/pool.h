// Worker threads for pipelines: jobs run in parallel, results come back in the order of submission.
// (Kernels use OpenMP; this is for files and streams.) SPDX-License-Identifier: MIT
#ifndef DIT_POOL_H
#define DIT_POOL_H

#include <stddef.h>

struct pool;

// threads >= 1 workers; at most `window` jobs are submitted and not yet collected.
// NULL with an error set.
struct pool *pool_new(size_t threads, size_t window);

// Runs work(job) on a worker. Blocks while the window is full AND another thread collects;
// a single-threaded user asks pool_full first. 0, or -1 after pool_close.
int pool_submit(struct pool *pool, void (*work)(void *job), void *job);

// Whether the window is full, so that pool_collect should come before pool_submit.
int pool_full(struct pool *pool);

// The oldest job not collected, once its work is done; NULL if none is left. With wait = 0, NULL
// also if it is not done yet. With wait = 2, for a thread of its own that collects, jobs still to
// be submitted are waited for, too, until pool_close.
void *pool_collect(struct pool *pool, int wait);

// No more jobs come: pool_collect returns NULL after the last, for a user with its own collecting
// thread.
void pool_close(struct pool *pool);

// Waits for running jobs, drops none: uncollected jobs are passed to `drop` (may be NULL).
void pool_free(struct pool *pool, void (*drop)(void *job));

#endif
