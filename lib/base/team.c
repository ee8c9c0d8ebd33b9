// Shares loops between threads. SPDX-License-Identifier: MIT
//
// Other programs may need the processors, so that any thread may lose its own at any moment:
// - A member begins with its share of the ranges, the same in every loop, as its cache may hold
// what
//   it wrote there before; then it takes ranges that others have not begun.
// - The caller waits for those members alone that have entered the loop. One that comes late, or
//   doesn't exist (no thread was to be had; a fork left it behind), holds up nothing.
// - Who waits spins for a short while, and then sleeps.
#include "lib/base/team.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"

// Within a training step a new loop begins after some microseconds. To wake a thread takes longer
// than that, but what a spinning thread uses is taken from others.
#define SPIN_SECONDS 50e-6

#define CACHE_LINE 64

// A member's share of the ranges: those from `next` on have not been begun.
struct team_share {
    atomic_size_t next;
    size_t end;
    char padding[CACHE_LINE - 2 * sizeof(size_t)];
};

// Bits of team.state, 0 between loops. The rest is the number of threads that are in the loop.
#define STATE_OPEN     0x80000000u // threads may enter
#define STATE_SLEEPING 0x40000000u // the caller sleeps until the last one has left

struct team {
    // The loop; constant while threads are in it.
    size_t count, grain;
    void (*work)(const void *context, struct team_range range);
    const void *context;
    struct team_share *shares; // (threads)
    size_t n_shares;

    size_t threads, n_started; // n_started: those beside the caller
    pthread_t *started;
    struct team_member *members;
    bool may_start;
    pid_t process; // that the threads belong to

    char padding[CACHE_LINE];
    atomic_uint generation; // counts the loops; threads sleep on it
    atomic_uint sleepers;
    atomic_bool stopping;
    char more_padding[CACHE_LINE];
    atomic_uint state; // the caller sleeps on it
};

// What a thread is given when it starts.
struct team_member {
    struct team *team;
    size_t number;
};

// This thread's number in the loop that it is in.
static _Thread_local size_t own_number;

static void futex_wait(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, size_t threads)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, (int)threads, NULL, NULL, 0);
}

// Tells the processor that this is a spinning loop.
static inline void pause_processor(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

// Spins for a short while until (*word == value) is `equal`, and returns whether it is. A thread
// that was without a processor meanwhile finds its time over.
static bool spin(atomic_uint *word, unsigned value, bool equal)
{
    const double end = clock_seconds() + SPIN_SECONDS;
    while ((atomic_load(word) == value) != equal) {
        if (clock_seconds() >= end)
            return false;
        pause_processor();
    }
    return true;
}

// Works on ranges until all have been begun.
static void share_loop(struct team *team, size_t member)
{
    for (size_t i = 0; i < team->n_shares; i++) {
        struct team_share *share = &team->shares[(member + i) % team->n_shares];
        if (atomic_load_explicit(&share->next, memory_order_relaxed) >= share->end)
            continue;
        size_t n;
        while ((n = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed)) <
               share->end) {
            const size_t first = n * team->grain, left = team->count - first;
            team->work(team->context,
                       (struct team_range){first, first + (left < team->grain ? left : team->grain),
                                           member});
        }
    }
}

// Enters the loop, unless it is over.
static bool enter_loop(struct team *team)
{
    unsigned state = atomic_load(&team->state);
    while (state & STATE_OPEN)
        if (atomic_compare_exchange_weak(&team->state, &state, state + 1))
            return true;
    return false;
}

static void leave_loop(struct team *team)
{
    if (atomic_fetch_sub(&team->state, 1) == (STATE_SLEEPING | 1))
        futex_wake(&team->state, 1);
}

static void *run_member(void *arg)
{
    const struct team_member *member = arg;
    struct team *team = member->team;
    own_number = member->number;
    unsigned seen = 0;
    while (!atomic_load(&team->stopping)) {
        if (!spin(&team->generation, seen, false)) {
            // The caller counts up first and then looks for sleepers; so either it sees this one,
            // or the kernel sees the new generation.
            atomic_fetch_add(&team->sleepers, 1);
            futex_wait(&team->generation, seen);
            atomic_fetch_sub(&team->sleepers, 1);
        }
        seen = atomic_load(&team->generation);
        if (enter_loop(team)) {
            share_loop(team, member->number);
            leave_loop(team);
        }
    }
    return NULL;
}

static void start_threads(struct team *team)
{
    team->process = getpid();
    team->may_start = false;
    for (size_t i = 0; i + 1 < team->threads; i++, team->n_started++) {
        team->members[i] = (struct team_member){team, i + 1};
        if (pthread_create(&team->started[i], NULL, run_member, &team->members[i]) != 0)
            return;
    }
}

struct team *team_new(size_t threads)
{
    assert(threads >= 1);
    struct team *team = mem_new(1, sizeof *team);
    if (!team)
        return NULL;
    team->threads = threads;
    team->may_start = threads > 1;
    team->shares = mem_new(threads, sizeof *team->shares);
    team->started = mem_new(threads, sizeof *team->started);
    team->members = mem_new(threads, sizeof *team->members);
    if (!team->shares || !team->started || !team->members) {
        team_free(team);
        return NULL;
    }
    return team;
}

// Wakes as many sleeping threads as there are ranges for.
static void wake_members(struct team *team, size_t ranges)
{
    atomic_fetch_add(&team->generation, 1);
    if (atomic_load(&team->sleepers) > 0)
        futex_wake(&team->generation, ranges - 1);
}

// Lets no more threads in, and waits for those that are.
static void close_loop(struct team *team)
{
    atomic_fetch_and(&team->state, ~STATE_OPEN);
    if (spin(&team->state, 0, true))
        return;
    unsigned state = atomic_fetch_or(&team->state, STATE_SLEEPING) | STATE_SLEEPING;
    for (; state != STATE_SLEEPING; state = atomic_load(&team->state))
        futex_wait(&team->state, state);
    atomic_store(&team->state, 0);
}

void team_for(struct team *team, size_t count, size_t grain,
              void (*work)(const void *context, struct team_range range), const void *context)
{
    const size_t ranges = count / grain + (count % grain != 0);
    const bool within = team && atomic_load(&team->state) != 0; // called by `work`
    if (!team || within || ranges < 2 || team->threads < 2) {
        const size_t member = within ? own_number : 0;
        for (size_t first = 0, end; first < count; first = end) {
            end = count - first < grain ? count : first + grain;
            work(context, (struct team_range){first, end, member});
        }
        return;
    }
    if (team->may_start)
        start_threads(team);
    const size_t caller = own_number; // it may be a member of another team
    team->count = count, team->grain = grain, team->work = work, team->context = context;
    team->n_shares = ranges < team->threads ? ranges : team->threads;
    for (size_t i = 0; i < team->n_shares; i++) {
        atomic_store_explicit(&team->shares[i].next, i * ranges / team->n_shares,
                              memory_order_relaxed);
        team->shares[i].end = (i + 1) * ranges / team->n_shares;
    }
    atomic_store(&team->state, STATE_OPEN);
    wake_members(team, ranges);
    own_number = 0;
    share_loop(team, 0);
    own_number = caller;
    close_loop(team);
}

void team_free(struct team *team)
{
    if (!team)
        return;
    atomic_store(&team->stopping, true);
    atomic_fetch_add(&team->generation, 1);
    futex_wake(&team->generation, INT32_MAX);
    for (size_t i = 0; i < team->n_started && team->process == getpid(); i++)
        pthread_join(team->started[i], NULL);
    free(team->members);
    free(team->started);
    free(team->shares);
    free(team);
}
