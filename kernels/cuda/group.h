// Sums and copies over a group of GPUs, each of a process of its own, by NCCL (group-nccl.cu); in
// the simulator through memory that the processes share (tests/cudasim/group.cc).
// SPDX-License-Identifier: MIT
#ifndef DIT_CUDA_GROUP_H
#define DIT_CUDA_GROUP_H

#include <cuda_runtime.h>

#include "kernels/device.h"

struct group;

// A name by which processes find each other. -1 with a message in why.
int group_make(unsigned char name[GROUP_NAME], char why[256]);
// Joins as one of `size` ranks, with this process's GPU number `gpu`; waits for all. NULL with a
// message in why.
struct group *group_new(const unsigned char name[GROUP_NAME], int rank, int size, int gpu,
                        char why[256]);
// By all ranks when their work is done; or by one alone, which aborts it.
void group_free(struct group *group, bool abort);

// As `struct backend` has them, on a stream. What fails is kept: group_fault.
void group_sum(struct group *group, void *x, size_t n, enum group_type type, int root,
               cudaStream_t stream);
void group_broadcast(struct group *group, void *x, size_t bytes, int root, cudaStream_t stream);
// What has failed so far, here or between the ranks; NULL: nothing. Waits for nothing.
const char *group_fault(struct group *group);

#endif
