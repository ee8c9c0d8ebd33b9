// What dit-mpi.so, the MPI plug-in, gives to lib/model/ranks.c. SPDX-License-Identifier: MIT
#ifndef DIT_RANKS_MPI_H
#define DIT_RANKS_MPI_H

#include <stdbool.h>
#include <stddef.h>

#define MPI_NAME 64 // of a machine

// Collective calls of all ranks, from one thread at a time. An error of MPI's ends all ranks, with
// MPI's message. They sleep between looks at what is under way: the processors compute meanwhile.
struct mpi_calls {
    size_t size; // of this struct: program and plug-in must agree
    int rank, ranks;
    bool threads; // another thread than the first may call
    // x[n], floats or doubles, is summed in place, for all ranks (root -1) or one; the same bits
    // for all.
    void (*sum)(void *x, size_t n, bool doubles, int root);
    void (*broadcast)(void *bytes, size_t size, int root);
    void (*gather)(const void *one, void *all, size_t size); // to all ranks, in their order
    void (*receive)(int from, void *bytes, size_t size);       // from one rank to rank 0
    void (*finish)(void);
    void (*abort)(int status);
};

// What the plug-in exports: starts MPI.
void dit_mpi_open(struct mpi_calls *calls);

#endif
