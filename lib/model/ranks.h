// The processes that train together, as mpirun or srun started them. SPDX-License-Identifier: MIT
//
// MPI comes as a plug-in, dit-mpi.so, which is loaded only where a launcher says that there is more
// than this process; alone, a program is a group of one. All functions but ranks_share are
// collective: every rank calls them, in the same order. NULL for `ranks` is a group of one.
#ifndef DIT_RANKS_H
#define DIT_RANKS_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/device.h"
#include "lib/base/rank.h"

struct ranks;

// Joins the processes that the launcher started and fills *self, which is kept: later errors that
// all ranks know set self->agreed. From then on a process that exits with another status than 0 or
// STATUS_STOPPED, and no error that all agreed on, stops all ranks. NULL with an error: a launcher
// without the plug-in or of another MPI, or a rank whose executable or arguments differ from rank
// 0's (STATUS_USAGE). Call it before tool_start with &tool.rank.
struct ranks *ranks_open(int argc, char **argv, struct rank *self);
void ranks_close(struct ranks *ranks); // all have come to their end; NULL is fine

int ranks_rank(const struct ranks *ranks);
int ranks_size(const struct ranks *ranks);

// The part of n that falls to a rank of `size`, and to this one.
struct share {
    size_t first, count;
};
struct share share_of(size_t n, int rank, int size);
struct share ranks_share(const struct ranks *ranks, size_t n);

// 0 where rc is 0 on all ranks. Else -1 on all, with the error of the first where it is not:
// "rank 2 (HOST): ...".
int ranks_check(struct ranks *ranks, int rc);
// 0 where all hold the same bytes. Else -1 on all, with an error (status) that names the first rank
// with other WHAT than rank 0.
int ranks_check_same(struct ranks *ranks, int status, const char *what, const void *bytes,
                     size_t size);
bool ranks_any(struct ranks *ranks, bool here); // whether it is so on any rank
// Sums x[n], host memory, over all ranks; the same bits on each.
void ranks_sum(struct ranks *ranks, double *x, size_t n);
// Copies rank 0's bytes, host memory, to all.
void ranks_broadcast(struct ranks *ranks, void *bytes, size_t size);
// Copies bytes, host memory, from a rank to rank 0, which has them at the same place; the others
// only take part.
void ranks_receive(struct ranks *ranks, int from, void *bytes, size_t size);

// Sums and copies of device memory, as kernels/device.h describes them, by the devices' own network
// or by MPI: they run beside what follows until ranks_device_wait.
int ranks_join(struct ranks *ranks,
               struct device *device); // once, before the others; -1 with error
void ranks_device_sum(struct ranks *ranks, struct device *device, void *x, size_t n,
                      enum group_type type, int root);
void ranks_device_broadcast(struct ranks *ranks, struct device *device, void *x, size_t bytes,
                            int root);
void ranks_device_wait(struct ranks *ranks, struct device *device);

#endif
