// The processes that train together, as mpirun or srun started them. SPDX-License-Identifier: MIT
//
// MPI is a plug-in, dit-mpi.so, that is loaded only if a launcher started several processes. A
// process without a launcher is a group of one, as is NULL for `ranks`. All functions but
// ranks_rank, ranks_size and ranks_share are collective: every rank must call them, in the same
// order.
#ifndef DIT_RANKS_H
#define DIT_RANKS_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/device.h"
#include "lib/base/rank.h"

struct ranks;

// Joins the processes that the launcher started and fills *self, which is kept: later errors that
// all ranks know set self->agreed. From then on, a process that exits with a status other than 0
// and STATUS_STOPPED stops all ranks, unless all of them agreed on the error. NULL with an error
// (STATUS_USAGE) if there is a launcher but no plug-in, if the launcher belongs to another MPI, or
// if a rank's executable or arguments differ from rank 0's. Call it before tool_start with
// &tool.rank.
struct ranks *ranks_open(int argc, char **argv, struct rank *self);
void ranks_close(struct ranks *ranks); // NULL is fine

int ranks_rank(const struct ranks *ranks);
int ranks_size(const struct ranks *ranks);

// A contiguous part of n elements.
struct share {
    size_t first, count;
};
struct share share_of(size_t n, int rank, int size); // the part of this rank out of `size`
struct share ranks_share(const struct ranks *ranks, size_t n); // this rank's part

// 0 if rc is 0 on all ranks. Otherwise -1 on all, with the error of the lowest rank that failed,
// "rank 2 (HOST): ...".
int ranks_check(struct ranks *ranks, int rc);
// 0 if all ranks hold the same bytes. Otherwise -1 on all, with an error (status): "rank 2 (HOST)
// has WHAT than rank 0 (HOST)"; `what` is "other data", for example.
int ranks_check_same(struct ranks *ranks, int status, const char *what, const void *bytes,
                     size_t size);
bool ranks_any(struct ranks *ranks, bool here); // whether `here` is true on any rank
// Sums x[n], host memory, over all ranks; all get the same bits.
void ranks_sum(struct ranks *ranks, double *x, size_t n);
// Copies rank 0's bytes, host memory, to all.
void ranks_broadcast(struct ranks *ranks, void *bytes, size_t size);
// Rank 0 receives the bytes, host memory, of rank `from`; on other ranks nothing changes.
void ranks_receive(struct ranks *ranks, int from, void *bytes, size_t size);

// Sums and copies of device memory, as kernels/device.h describes them, over the devices' own
// network or by MPI. They go on in the background until ranks_device_wait. ranks_join is called
// once, before the others; -1 with an error.
int ranks_join(struct ranks *ranks, struct device *device);
void ranks_device_sum(struct ranks *ranks, struct device *device, void *x, size_t n,
                      enum group_type type, int root);
void ranks_device_broadcast(struct ranks *ranks, struct device *device, void *x, size_t bytes,
                            int root);
void ranks_device_wait(struct ranks *ranks, struct device *device);

#endif
