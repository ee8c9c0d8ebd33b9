// A pool runs jobs in parallel and hands them back in order. SPDX-License-Identifier: MIT
#include "lib/base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "lib/base/error.h"
#include "tests/tap.h"

struct job {
    int number, result;
};

static atomic_int running, most, dropped;

static void nap(long microseconds)
{
    nanosleep(&(struct timespec){0, microseconds * 1000}, NULL);
}

static void work(void *arg)
{
    struct job *job = arg;
    int now = atomic_fetch_add(&running, 1) + 1;
    for (int seen = most; now > seen && !atomic_compare_exchange_weak(&most, &seen, now);)
        ;
    nap(job->number % 3 * 300); // so that later jobs are done earlier
    job->result = job->number * job->number;
    atomic_fetch_sub(&running, 1);
}

static void drop(void *arg)
{
    (void)arg;
    dropped++;
}

enum { N = 300 };
static struct job jobs[N];

static void reset(void)
{
    most = dropped = 0;
    for (int i = 0; i < N; i++)
        jobs[i] = (struct job){i, -1};
}

static bool in_order(const struct job *job, int i)
{
    return job == &jobs[i] && job->result == i * i;
}

static void test_one_user(size_t threads, size_t window)
{
    reset();
    struct pool *pool = pool_new(threads, window);
    int collected = 0, good = 0;
    for (int i = 0; i < N; i++) {
        if (pool_full(pool)) {
            good += in_order(pool_collect(pool, POOL_WAIT), collected);
            collected++;
        }
        pool_submit(pool, work, &jobs[i]);
    }
    for (void *job; (job = pool_collect(pool, POOL_WAIT)); collected++)
        good += in_order(job, collected);
    ok(collected == N && good == N, "%zu threads, window %zu: all jobs, in order", threads, window);
    ok(most <= (int)threads && (threads == 1 || window == 1 || most > 1),
       "%zu threads, window %zu: at most %d jobs ran at a time", threads, window, most);
    pool_free(pool, drop);
    ok(dropped == 0, "%zu threads, window %zu: no job is left to drop", threads, window);
}

static void *collect_all(void *arg)
{
    static int good;
    good = 0;
    int i = 0;
    for (void *job; (job = pool_collect(arg, POOL_WAIT_UNTIL_END)); i++)
        good += in_order(job, i);
    return i == N ? &good : NULL;
}

static void test_collecting_thread(void)
{
    reset();
    struct pool *pool = pool_new(3, 4);
    pthread_t thread;
    pthread_create(&thread, NULL, collect_all, pool);
    nap(2000); // the thread must wait for the first job, not take the empty pool for the end
    for (int i = 0; i < N; i++)
        pool_submit(pool, work, &jobs[i]);
    pool_close(pool);
    void *good;
    pthread_join(thread, &good);
    ok(good && *(int *)good == N, "a collecting thread gets all jobs in order until pool_close");
    ok(pool_submit(pool, work, &jobs[0]) == -1 && error_status() == STATUS_INTERNAL,
       "a closed pool takes no jobs: %s", error_message());
    pool_free(pool, NULL);
}

static atomic_bool gate;

static void wait_for_gate(void *arg)
{
    while (!gate)
        nap(100);
    work(arg);
}

static void test_polling_and_dropping(void)
{
    reset();
    gate = false;
    struct pool *pool = pool_new(1, 5);
    ok(pool_collect(pool, POOL_POLL) == NULL && pool_collect(pool, POOL_WAIT) == NULL,
       "an empty pool has no job");
    for (int i = 0; i < 5; i++)
        pool_submit(pool, i ? work : wait_for_gate, &jobs[i]);
    ok(pool_full(pool), "a window of five is full after five jobs");
    ok(pool_collect(pool, POOL_POLL) == NULL, "POOL_POLL does not wait for a job");
    gate = true;
    ok(in_order(pool_collect(pool, POOL_WAIT), 0), "POOL_WAIT waits for a job");
    pool_free(pool, drop);
    ok(dropped == 4, "jobs not collected are dropped: %d", dropped);
}

int main(void)
{
    test_one_user(1, 1);
    test_one_user(1, 8);
    test_one_user(4, 1);
    test_one_user(4, 9);
    test_collecting_thread();
    test_polling_and_dropping();
    return tap_done();
}
