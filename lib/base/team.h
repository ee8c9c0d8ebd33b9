// A team of threads that share the rounds of a loop, and sleep when there is nothing to share.
// SPDX-License-Identifier: MIT
//
//     static void scale(const void *context, struct team_range range)
//     {
//         float *x = *(float *const *)context;
//         for (size_t i = range.first; i < range.end; i++)
//             x[i] *= 2;
//     }
//     team_for(team, n, 4096, scale, &x);
#ifndef DIT_TEAM_H
#define DIT_TEAM_H

#include <stddef.h>

struct team;

// A team of at most `threads` >= 1 members: the thread that calls team_for, and others, which start
// with the first loop. Where the system gives fewer threads, fewer do the work. NULL with an error
// if there is no memory. One thread at a time may use a team; after a fork the child's works alone.
struct team *team_new(size_t threads);
void team_free(struct team *team); // NULL is fine

// Rounds first .. end - 1 of a loop. `member` is below the team's `threads`, and no two ranges that
// are worked on at the same time have the same one, so that it may choose working memory.
struct team_range {
    size_t first, end, member;
};

// Calls work(context, range) for ranges of `grain` >= 1 rounds (the last may have fewer) that
// together are 0 .. count - 1, and returns when all are done. Which member has which range, and
// when, differs from call to call. The ranges don't, and don't depend on the number of threads.
// Without a team (NULL), or called by `work`, all is done by the caller.
void team_for(struct team *team, size_t count, size_t grain,
              void (*work)(const void *context, struct team_range range), const void *context);

#endif
