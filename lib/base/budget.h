// Memory that threads share: who needs much waits until others have released enough.
// SPDX-License-Identifier: MIT
#ifndef DIT_BUDGET_H
#define DIT_BUDGET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct budget {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    size_t used, limit; // bytes
    bool closed;
};
void budget_init(struct budget *budget, size_t limit);
void budget_free(struct budget *budget);
// Waits until `size` bytes fit, or nothing else is in use: what is over the limit goes alone.
// -1 without a message after budget_close.
int budget_acquire(struct budget *budget, size_t size);
void budget_release(struct budget *budget, size_t size);
void budget_wait_empty(struct budget *budget);
void budget_close(struct budget *budget);

#endif
