// A team of threads does every round of a loop once, whatever becomes of its threads.
// SPDX-License-Identifier: MIT
#include "lib/base/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/tap.h"

enum { N = 1000, MEMBERS = 8 };

// What the rounds of a loop have seen.
struct record {
    struct team *team;
    size_t grain, threads;
    atomic_int done[N];
    atomic_int at_work[MEMBERS]; // ranges that each member works on
    atomic_int wrong;            // ranges with the wrong rounds or member
    size_t nap_at;               // the round in which a member sleeps, or N
};

static void nap(long milliseconds)
{
    nanosleep(&(struct timespec){0, milliseconds * 1000000}, NULL);
}

static void record_range(const void *context, struct team_range range)
{
    struct record *r = *(struct record *const *)context;
    const size_t rounds = range.end - range.first;
    if (range.member >= r->threads || range.first % r->grain != 0 || rounds > r->grain) {
        r->wrong++;
        return;
    }
    r->wrong += r->at_work[range.member]++ != 0;
    for (size_t i = range.first; i < range.end; i++) {
        r->done[i]++;
        if (i == r->nap_at)
            nap(20);
    }
    r->at_work[range.member]--;
}

// Whether a loop of `count` rounds does each of them once, and no other.
static bool loop_is_right(struct record *r, size_t count, size_t grain)
{
    r->grain = grain;
    r->wrong = 0;
    for (size_t i = 0; i < N; i++)
        r->done[i] = 0;
    team_for(r->team, count, grain, record_range, &r);
    bool good = r->wrong == 0;
    for (size_t i = 0; i < N; i++)
        good = good && r->done[i] == (i < count);
    return good;
}

static void test_rounds(size_t threads)
{
    static struct record r;
    r = (struct record){.team = team_new(threads), .threads = threads, .nap_at = N};
    bool good = r.team;
    for (size_t count = 0; count <= N; count += count < 20 ? 1 : 98)
        for (size_t grain = 1; grain <= 2 * N; grain *= 3)
            good = good && loop_is_right(&r, count, grain);
    ok(good, "of %zu threads each round is done once, in ranges of the grain", threads);
    r.nap_at = N / 2 + 1;
    ok(good && loop_is_right(&r, N, 7), "... also where one of them is slow");
    nap(5);
    ok(good && loop_is_right(&r, N, 7), "... or all have gone to sleep");
    team_free(r.team);
}

// Loops and pauses in which threads are awake, about to sleep and asleep.
static void test_many_loops(void)
{
    static struct record r;
    r = (struct record){.team = team_new(4), .threads = 4, .nap_at = N};
    bool good = true;
    for (int i = 0; i < 4000; i++) {
        good = good && loop_is_right(&r, 5, 1);
        if (i % 8 == 0)
            nanosleep(&(struct timespec){0, i % 100 * 1000}, NULL);
    }
    ok(good, "thousands of short loops, with pauses, lose no round");
    team_free(r.team);
}

static void check_member(const void *context, struct team_range range)
{
    const size_t *outer = context;
    if (range.member != *outer)
        abort();
}

struct nesting {
    struct team *team;
    atomic_int inner;
};

static void loop_again(const void *context, struct team_range range)
{
    struct nesting *nesting = *(struct nesting *const *)context;
    team_for(nesting->team, 10, 1, check_member, &range.member);
    nesting->inner++;
}

static void test_nested_loops(void)
{
    struct nesting nesting = {team_new(3), 0}, *context = &nesting;
    team_for(nesting.team, 50, 1, loop_again, &context);
    ok(nesting.inner == 50, "a loop within a loop is done by the member that calls it");
    team_free(nesting.team);
}

static void test_fork(void)
{
    static struct record r;
    r = (struct record){.team = team_new(4), .threads = 4, .nap_at = N};
    bool good = loop_is_right(&r, N, 3);
    pid_t child = fork();
    if (child == 0) {
        good = loop_is_right(&r, N, 3);
        team_free(r.team);
        _exit(!good);
    }
    int status = -1;
    good = good && waitpid(child, &status, 0) == child;
    ok(good && status == 0, "after a fork the child does the loop alone, and can free the team");
    ok(loop_is_right(&r, N, 3), "... and the parent's team is as before");
    team_free(r.team);
}

static void test_idle(void)
{
    static struct record r;
    r = (struct record){.team = team_new(4), .threads = 4, .nap_at = N};
    loop_is_right(&r, N, 3);
    double before = processor_seconds();
    nap(300);
    double used = processor_seconds() - before;
    ok(used < 0.1, "a team without work leaves the processors to others: used %.4f s of 0.3", used);
    team_free(r.team);
}

// A stack larger than the address space: no thread can start.
static void test_no_threads(void)
{
    static struct record r;
    pthread_attr_t usual, huge;
    pthread_getattr_default_np(&usual);
    pthread_attr_init(&huge);
    bool good = pthread_attr_setstacksize(&huge, (size_t)1 << 48) == 0 &&
                pthread_setattr_default_np(&huge) == 0;
    r = (struct record){.team = team_new(4), .threads = 4, .nap_at = N};
    good = good && loop_is_right(&r, N, 3) && loop_is_right(&r, N, 3);
    pthread_setattr_default_np(&usual);
    ok(good, "where no thread can start, the caller does the loop");
    team_free(r.team);
}

int main(void)
{
    test_rounds(1);
    test_rounds(2);
    test_rounds(MEMBERS);
    test_many_loops();
    test_nested_loops();
    test_fork();
    test_idle();
    test_no_threads();
    struct record alone = {.threads = 1, .nap_at = N};
    ok(loop_is_right(&alone, N, 3), "without a team the caller does the loop");
    return tap_done();
}
