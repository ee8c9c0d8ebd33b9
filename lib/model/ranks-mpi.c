// The MPI plug-in, dit-mpi.so; the only source that mpicc compiles. SPDX-License-Identifier: MIT
#include "lib/model/ranks-mpi.h"

#include <mpi.h>
#include <time.h>

// MPI counts in int.
#define COUNT_MAX ((size_t)1 << 30)

// Polls and sleeps, because MPI_Wait would keep a processor busy that could compute.
static void wait_for(MPI_Request *request)
{
    const struct timespec nap = {.tv_nsec = 50000};
    int done;
    for (int polls = 0; MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done;
         polls++)
        if (polls > 100)
            nanosleep(&nap, NULL);
}

static int own_rank(void)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static void mpi_sum(void *x, size_t n, bool doubles, int root)
{
    MPI_Datatype type = doubles ? MPI_DOUBLE : MPI_FLOAT;
    size_t size = doubles ? sizeof(double) : sizeof(float);
    for (size_t at = 0; at < n; at += COUNT_MAX) {
        char *part = (char *)x + at * size;
        int count = (int)(n - at < COUNT_MAX ? n - at : COUNT_MAX);
        MPI_Request request;
        if (root < 0)
            MPI_Iallreduce(MPI_IN_PLACE, part, count, type, MPI_SUM, MPI_COMM_WORLD, &request);
        else if (root == own_rank())
            MPI_Ireduce(MPI_IN_PLACE, part, count, type, MPI_SUM, root, MPI_COMM_WORLD, &request);
        else
            MPI_Ireduce(part, NULL, count, type, MPI_SUM, root, MPI_COMM_WORLD, &request);
        wait_for(&request);
    }
}

static void mpi_broadcast(void *bytes, size_t size, int root)
{
    for (size_t at = 0; at < size; at += COUNT_MAX) {
        MPI_Request request;
        MPI_Ibcast((char *)bytes + at, (int)(size - at < COUNT_MAX ? size - at : COUNT_MAX),
                   MPI_BYTE, root, MPI_COMM_WORLD, &request);
        wait_for(&request);
    }
}

static void mpi_allgather(const void *one, void *all, size_t size)
{
    MPI_Request request;
    MPI_Iallgather(one, (int)size, MPI_BYTE, all, (int)size, MPI_BYTE, MPI_COMM_WORLD, &request);
    wait_for(&request);
}

static void mpi_receive(int from, void *bytes, size_t size)
{
    int rank = own_rank();
    for (size_t at = 0; (rank == 0 || rank == from) && at < size; at += COUNT_MAX) {
        char *part = (char *)bytes + at;
        int count = (int)(size - at < COUNT_MAX ? size - at : COUNT_MAX);
        MPI_Request request;
        if (rank == 0)
            MPI_Irecv(part, count, MPI_BYTE, from, 0, MPI_COMM_WORLD, &request);
        else
            MPI_Isend(part, count, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &request);
        wait_for(&request);
    }
}

static void mpi_finalize(void)
{
    MPI_Finalize();
}

static void mpi_abort(int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
}

void dit_mpi_open(struct mpi_calls *calls)
{
    int given;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &given);
    *calls = (struct mpi_calls){
        .size = sizeof *calls,
        .threads = given >= MPI_THREAD_SERIALIZED,
        .sum = mpi_sum,
        .broadcast = mpi_broadcast,
        .allgather = mpi_allgather,
        .receive = mpi_receive,
        .finalize = mpi_finalize,
        .abort = mpi_abort,
    };
    MPI_Comm_rank(MPI_COMM_WORLD, &calls->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &calls->ranks);
}
