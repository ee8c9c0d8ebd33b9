// Implements the group functions of struct backend. SPDX-License-Identifier: MIT
//
// Sums run on a stream of their own, in parallel with the backward pass that computes further
// gradients. Events fork and join that stream, so that operations and sums can be recorded as one
// graph.
#include "kernels/cuda/group.h"

#include <stdio.h>
#include <time.h>

#include "kernels/cuda/backend.h"

#define WARM_UP_BYTES ((size_t)64 << 20) // more than NCCL's algorithms for small arrays take

// Aborts the group if it has failed, as its kernels would wait for the lost ranks for ever. NCCL
// waits for the graphs that hold sums, so these are freed first; CUDA keeps one that still runs
// until its kernels have been aborted.
static void check_group(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    const char *fault = state->group ? group_fault(state->group) : NULL;
    if (!fault)
        return;
    if (!device->error[0])
        snprintf(device->error, sizeof device->error,
                 "%.80s: the ranks have lost each other: %.130s", device->description, fault);
    if (state->recording) // no kernel runs, and the next wait checks again
        return;
    cuda_free_graphs(device);
    group_free(state->group, true);
    state->group = NULL;
    state->group_lost = true;
}

void cuda_wait_for(struct device *device, cudaEvent_t event, const char *what)
{
    struct cuda_state *state = cuda_state(device);
    const struct timespec pause = {0, 20000};
    bool ready = false;
    while (state->group && !ready) {
        ready =
            (event ? cudaEventQuery(event) : cudaStreamQuery(state->stream)) != cudaErrorNotReady;
        check_group(device);
        if (!ready)
            nanosleep(&pause, NULL);
    }
    cuda_check(device, event ? cudaEventSynchronize(event) : cudaStreamSynchronize(state->stream),
               what);
}

// Makes the group's stream wait for the operations so far.
static void fork_stream(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    cuda_check(device, cudaEventRecord(state->group_fork, state->stream), "starting a sum");
    cuda_check(device, cudaStreamWaitEvent(state->group_stream, state->group_fork, 0),
               "starting a sum");
    if (state->side.busy) {
        cuda_check(device, cudaEventRecord(state->side.join, state->side.stream), "starting a sum");
        cuda_check(device, cudaStreamWaitEvent(state->group_stream, state->side.join, 0),
                   "starting a sum");
    }
    state->group_busy = true;
}

void cuda_group_sum(struct device *device, void *x, size_t n, enum group_type type, int root)
{
    struct cuda_state *state = cuda_state(device);
    if (!state->group || n == 0)
        return;
    fork_stream(device);
    group_sum(state->group, x, n, type, root, state->group_stream);
    check_group(device);
}

void cuda_group_broadcast(struct device *device, void *x, size_t bytes, int root)
{
    struct cuda_state *state = cuda_state(device);
    if (!state->group || bytes == 0)
        return;
    fork_stream(device);
    group_broadcast(state->group, x, bytes, root, state->group_stream);
    check_group(device);
}

void cuda_group_wait(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    if (!state->group_busy)
        return;
    cuda_check(device, cudaEventRecord(state->group_join, state->group_stream), "ending a sum");
    cuda_check(device, cudaStreamWaitEvent(state->stream, state->group_join, 0), "ending a sum");
    state->group_busy = false;
}

// Makes each call that training makes, of many bytes and of few: NCCL connects the ranks and
// allocates memory when it first uses an algorithm, and memory is planned after this.
static int warm_up(struct device *device, int size, char why[256])
{
    float one = 1, sum = 0;
    const size_t n = WARM_UP_BYTES / sizeof(float);
    float *x = static_cast<float *>(device_alloc(device, WARM_UP_BYTES)); // zeros
    if (!x) {
        snprintf(why, 256, "out of memory on the GPU");
        return -1;
    }
    device_upload(device, x, &one, sizeof one);
    cuda_group_sum(device, x, n, GROUP_FLOAT, GROUP_ALL);
    cuda_group_wait(device);
    device_download(device, &sum, x, sizeof sum);
    device_zero(device, x, WARM_UP_BYTES);
    cuda_group_sum(device, x, n, GROUP_FLOAT, 0);
    cuda_group_sum(device, x, 1, GROUP_FLOAT, 0);
    cuda_group_sum(device, x, 1, GROUP_DOUBLE, GROUP_ALL);
    cuda_group_broadcast(device, x, WARM_UP_BYTES, 0);
    cuda_group_broadcast(device, x, sizeof one, 0);
    cuda_group_wait(device);
    cuda_wait_for(device, NULL, "joining the ranks");
    device_release(device, x);
    if (device->error[0])
        snprintf(why, 256, "%s", device->error);
    else if (sum != static_cast<float>(size))
        snprintf(why, 256, "%d ranks that each add 1 came to %g", size, static_cast<double>(sum));
    else
        return 0;
    return -1;
}

int cuda_group_join(struct device *device, const unsigned char name[GROUP_NAME], int rank, int size,
                    char why[256])
{
    struct cuda_state *state = cuda_state(device);
    cudaError_t error = cudaStreamCreateWithFlags(&state->group_stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&state->group_fork, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&state->group_join, cudaEventDisableTiming);
    if (error != cudaSuccess) {
        snprintf(why, 256, "%s: %s", device->description, cudaGetErrorString(error));
        return -1;
    }
    state->group = group_new(name, rank, size, state->index, why);
    return state->group ? warm_up(device, size, why) : -1;
}

void cuda_group_leave(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    if (state->group)
        group_free(state->group, device->error[0]);
    state->group = NULL;
    if (state->group_fork)
        cudaEventDestroy(state->group_fork);
    if (state->group_join)
        cudaEventDestroy(state->group_join);
    if (state->group_stream)
        cudaStreamDestroy(state->group_stream);
}
