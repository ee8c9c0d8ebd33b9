// A counter under a lock, whose takers wait for a condition. SPDX-License-Identifier: MIT
#include "lib/base/budget.h"

#include <assert.h>

void budget_init(struct budget *budget, size_t limit)
{
    *budget = (struct budget){.limit = limit};
    pthread_mutex_init(&budget->lock, NULL);
    pthread_cond_init(&budget->freed, NULL);
}

void budget_free(struct budget *budget)
{
    pthread_mutex_destroy(&budget->lock);
    pthread_cond_destroy(&budget->freed);
}

int budget_acquire(struct budget *budget, size_t size)
{
    pthread_mutex_lock(&budget->lock);
    while (!budget->closed && budget->used && budget->used + size > budget->limit)
        pthread_cond_wait(&budget->freed, &budget->lock);
    bool closed = budget->closed;
    if (!closed)
        budget->used += size;
    pthread_mutex_unlock(&budget->lock);
    return closed ? -1 : 0;
}

void budget_release(struct budget *budget, size_t size)
{
    pthread_mutex_lock(&budget->lock);
    assert(size <= budget->used);
    budget->used -= size;
    pthread_cond_broadcast(&budget->freed);
    pthread_mutex_unlock(&budget->lock);
}

void budget_wait_empty(struct budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    while (budget->used)
        pthread_cond_wait(&budget->freed, &budget->lock);
    pthread_mutex_unlock(&budget->lock);
}

void budget_close(struct budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    budget->closed = true;
    pthread_cond_broadcast(&budget->freed);
    pthread_mutex_unlock(&budget->lock);
}
