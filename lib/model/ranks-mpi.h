// The functions that dit-mpi.so, the MPI plug-in, gives to lib/model/ranks.c.
// SPDX-License-Identifier: MIT
#ifndef DIT_RANKS_MPI_H
#define DIT_RANKS_MPI_H

#include <stdbool.h>
#include <stddef.h>

#define MPI_NAME 64 // bytes of a host name

// Collective: every rank calls them, from one thread at a time. An error in MPI ends all ranks with
// MPI's message. The calls sleep while they wait, so that the processor is free to compute.
struct mpi_calls {
    size_t size; // of this struct, to refuse a plug-in of another build
    int rank, ranks;
    bool threads; // threads other than the main one may call
    // Sums x[n], floats or doubles, in place, on all ranks (root -1) or one. All get the same bits.
    void (*sum)(void *x, size_t n, bool doubles, int root);
    void (*broadcast)(void *bytes, size_t size, int root);
    void (*allgather)(const void *one, void *all, size_t size); // all: in the order of the ranks
    void (*receive)(int from, void *bytes, size_t size);        // rank 0 receives from one rank
    void (*finalize)(void);
    void (*abort)(int status);
};

// The plug-in exports this alone. Starts MPI.
void dit_mpi_open(struct mpi_calls *calls);

#endif
