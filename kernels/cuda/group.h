// Sums and copies over a group of GPUs, one in each process: by NCCL (group-nccl.cu), or in the
// simulator through shared memory (tests/cudasim/group.cc).
// SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_GROUP_H
#define DIT_CUDA_GROUP_H

#include <cuda_runtime.h>

#include "kernels/device.h"

struct group;

// Makes a name by which the processes find each other. -1 with a message in why.
int group_make(unsigned char name[GROUP_NAME], char why[256]);
// Joins as rank `rank` of `size`, with GPU number `gpu`, and waits for all. NULL with a message in
// why.
struct group *group_new(const unsigned char name[GROUP_NAME], int rank, int size, int gpu,
                        char why[256]);
// Frees the group: all ranks do this when their work is done, or one alone aborts it.
void group_free(struct group *group, bool abort);

// As in struct backend, but on the given stream. Errors are kept for group_fault.
void group_sum(struct group *group, void *x, size_t n, enum group_type type, int root,
               cudaStream_t stream);
void group_broadcast(struct group *group, void *x, size_t bytes, int root, cudaStream_t stream);
// The message of the first failure, on this rank or between ranks, or NULL. Does not wait.
const char *group_fault(struct group *group);

#endif
