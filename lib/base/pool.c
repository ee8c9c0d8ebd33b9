// A ring of jobs between the submitting thread, the workers and the collecting thread.
// SPDX-License-Identifier: MIT
#include "lib/base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

struct pool_slot {
    void (*work)(void *job);
    void *job;
    bool done;
};

// Jobs are numbered in the order of submission, and job i is in slot i % window:
// collected <= started <= submitted <= collected + window.
struct pool {
    size_t n_threads, window;
    pthread_t *threads;
    struct pool_slot *slots;
    uint64_t collected, started, submitted;
    bool closed, stopping;
    pthread_mutex_t lock;
    pthread_cond_t to_start, to_collect, to_submit;
};

static void *worker(void *arg)
{
    struct pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->started == pool->submitted && !pool->stopping)
            pthread_cond_wait(&pool->to_start, &pool->lock);
        if (pool->stopping)
            break;
        struct pool_slot *slot = &pool->slots[pool->started++ % pool->window];
        pthread_mutex_unlock(&pool->lock);
        slot->work(slot->job);
        pthread_mutex_lock(&pool->lock);
        slot->done = true;
        pthread_cond_broadcast(&pool->to_collect);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct pool *pool_new(size_t threads, size_t window)
{
    assert(threads >= 1 && window >= 1);
    struct pool *pool = mem_new(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->to_start, NULL);
    pthread_cond_init(&pool->to_collect, NULL);
    pthread_cond_init(&pool->to_submit, NULL);
    pool->window = window;
    pool->slots = mem_new(window, sizeof *pool->slots);
    pool->threads = mem_new(threads, sizeof *pool->threads);
    if (!pool->slots || !pool->threads) {
        pool_free(pool, NULL);
        return NULL;
    }
    int rc = 0;
    while (pool->n_threads < threads && rc == 0) {
        rc = pthread_create(&pool->threads[pool->n_threads], NULL, worker, pool);
        pool->n_threads += rc == 0;
    }
    if (rc) {
        error_set(STATUS_INTERNAL, "cannot start thread %zu of %zu: %s", pool->n_threads + 1,
                  threads, strerror(rc));
        pool_free(pool, NULL);
        return NULL;
    }
    return pool;
}

int pool_submit(struct pool *pool, void (*work)(void *job), void *job)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->submitted - pool->collected == pool->window && !pool->closed)
        pthread_cond_wait(&pool->to_submit, &pool->lock);
    bool closed = pool->closed;
    if (!closed) {
        pool->slots[pool->submitted++ % pool->window] = (struct pool_slot){work, job, false};
        pthread_cond_signal(&pool->to_start);
        pthread_cond_broadcast(&pool->to_collect);
    }
    pthread_mutex_unlock(&pool->lock);
    return closed ? error_set(STATUS_INTERNAL, "a job was submitted to a closed pool") : 0;
}

bool pool_full(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool full = pool->submitted - pool->collected == pool->window;
    pthread_mutex_unlock(&pool->lock);
    return full;
}

void *pool_collect(struct pool *pool, enum pool_wait wait)
{
    void *job = NULL;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        bool none = pool->collected == pool->submitted;
        struct pool_slot *slot = &pool->slots[pool->collected % pool->window];
        if (!none && slot->done) {
            job = slot->job;
            pool->collected++;
            pthread_cond_signal(&pool->to_submit);
            break;
        }
        if (wait == POOL_POLL || (none && (wait == POOL_WAIT || pool->closed)))
            break;
        pthread_cond_wait(&pool->to_collect, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

void pool_close(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pthread_cond_broadcast(&pool->to_collect);
    pthread_cond_broadcast(&pool->to_submit);
    pthread_mutex_unlock(&pool->lock);
}

void pool_free(struct pool *pool, void (*drop)(void *job))
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->to_start);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    for (; drop && pool->collected < pool->submitted; pool->collected++)
        drop(pool->slots[pool->collected % pool->window].job);
    pthread_cond_destroy(&pool->to_start);
    pthread_cond_destroy(&pool->to_collect);
    pthread_cond_destroy(&pool->to_submit);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool->slots);
    free(pool);
}
