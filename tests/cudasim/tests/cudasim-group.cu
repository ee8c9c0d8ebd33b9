// Tests the simulator's sums and copies between processes, which replace NCCL's, and that mistakes
// are caught. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/group.h"
#include "tests/tap.h"

constexpr int ranks = 2;
constexpr size_t many = 70001; // more elements than are exchanged at a time

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "%s\n", cudaGetErrorString(error));
        abort();
    }
}

// A rank: a stream for work and one for sums, and the events between them.
struct rank {
    int number;
    struct group *group;
    cudaStream_t work, sums;
    cudaEvent_t fork, join;
};

static void fork_sums(const struct rank *r)
{
    must(cudaEventRecord(r->fork, r->work));
    must(cudaStreamWaitEvent(r->sums, r->fork));
}
static void join_sums(const struct rank *r)
{
    must(cudaEventRecord(r->join, r->sums));
    must(cudaStreamWaitEvent(r->work, r->join));
}

template <class T> static T *device(size_t n)
{
    T *x;
    must(cudaMalloc(&x, n * sizeof(T)));
    return x;
}

template <class T> __global__ void fill(T *x, size_t n, T factor)
{
    for (size_t i = threadIdx.x; i < n; i += blockDim.x)
        x[i] = factor * static_cast<T>(i);
}
template <class T> static void start_fill(const struct rank *r, T *x, size_t n, T factor)
{
    must(LAUNCH(fill<T>, 1, 64, 0, r->work, x, n, factor));
}

// Whether x[i] is factor i for all i once the work stream has copied x to the host.
template <class T> static bool holds(const struct rank *r, const T *x, size_t n, T factor)
{
    static T host[many];
    must(cudaMemcpyAsync(host, x, n * sizeof(T), cudaMemcpyDeviceToHost, r->work));
    must(cudaStreamSynchronize(r->work));
    for (size_t i = 0; i < n; i++)
        if (!(host[i] == factor * static_cast<T>(i)))
            return false;
    return true;
}

// Sums x, where rank r contributes x[i] = (r + 1) i.
template <class T, enum group_type TYPE>
static bool sums(const struct rank *r, size_t n, int root, bool wait)
{
    T *x = device<T>(n);
    start_fill(r, x, n, static_cast<T>(r->number + 1));
    fork_sums(r);
    group_sum(r->group, x, n, TYPE, root, r->sums);
    if (wait)
        join_sums(r);
    const bool mine = root == GROUP_ALL || root == r->number;
    const bool good = holds(r, x, n, static_cast<T>(3)) == mine && !group_fault(r->group);
    must(cudaDeviceSynchronize());
    must(cudaFree(x));
    return good;
}

static bool sum_floats(const struct rank *r)
{
    return sums<float, GROUP_FLOAT>(r, many, GROUP_ALL, true) &&
           sums<float, GROUP_FLOAT>(r, 1, GROUP_ALL, true);
}
static bool sum_doubles(const struct rank *r)
{
    return sums<double, GROUP_DOUBLE>(r, many, GROUP_ALL, true);
}
static bool sum_to_one(const struct rank *r)
{
    return sums<float, GROUP_FLOAT>(r, many, 1, true) && sums<double, GROUP_DOUBLE>(r, 17, 0, true);
}
static bool forget_to_wait(const struct rank *r)
{
    return !sums<float, GROUP_FLOAT>(r, many, GROUP_ALL, false);
}

static bool broadcast(const struct rank *r)
{
    float *x = device<float>(many);
    start_fill(r, x, many, static_cast<float>(r->number + 5));
    fork_sums(r);
    group_broadcast(r->group, x, many * sizeof *x, 1, r->sums);
    join_sums(r);
    const bool good = holds(r, x, many, 6.0f);
    must(cudaFree(x));
    return good;
}

__global__ void add_places(float *x, size_t arrays, size_t n)
{
    for (size_t i = threadIdx.x; i < arrays * n; i += blockDim.x)
        x[i] += static_cast<float>(i % n);
}

// A graph that fills and sums four arrays, then adds i to each x[i]; launched three times.
static bool replay(const struct rank *r, bool wait)
{
    constexpr size_t arrays = 4, n = 500;
    float *x = device<float>(arrays * n);
    // The first sum takes memory, which no sum of a recording may.
    must(cudaMemset(x, 0, n * sizeof *x));
    group_sum(r->group, x, n, GROUP_FLOAT, GROUP_ALL, r->sums);
    must(cudaDeviceSynchronize());
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    must(cudaStreamBeginCapture(r->work, cudaStreamCaptureModeThreadLocal));
    for (size_t a = 0; a < arrays; a++) {
        start_fill(r, x + a * n, n, static_cast<float>(r->number + 1));
        fork_sums(r);
        group_sum(r->group, x + a * n, n, GROUP_FLOAT, GROUP_ALL, r->sums);
        if (!wait) // while the sum is under way
            must(LAUNCH(add_places, 1, 64, 0, r->work, x + a * n, 1, n));
    }
    join_sums(r);
    if (wait)
        must(LAUNCH(add_places, 1, 64, 0, r->work, x, arrays, n));
    must(cudaStreamEndCapture(r->work, &graph));
    must(cudaGraphInstantiate(&exec, graph));
    bool good = true;
    for (int i = 0; i < 3; i++) {
        must(cudaMemsetAsync(x, 0, arrays * n * sizeof *x, r->work));
        must(cudaGraphLaunch(exec, r->work));
        for (size_t a = 0; a < arrays; a++)
            good = holds(r, x + a * n, n, 4.0f) && good;
    }
    must(cudaGraphExecDestroy(exec));
    must(cudaGraphDestroy(graph));
    must(cudaFree(x));
    return good;
}
static bool replay_graph(const struct rank *r)
{
    return replay(r, true);
}
static bool replay_unjoined(const struct rank *r)
{
    return !replay(r, false);
}

// Sums numbers for which the order matters, and expects the same bits on all ranks.
static bool same_bits(const struct rank *r)
{
    float host[2] = {r->number ? 1e8f : 3.14159f, 0};
    float *x = device<float>(2);
    must(cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, r->work));
    fork_sums(r);
    group_sum(r->group, x, 2, GROUP_FLOAT, GROUP_ALL, r->sums);
    join_sums(r);
    must(cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDeviceToHost, r->work));
    must(cudaStreamSynchronize(r->work));
    must(cudaFree(x));
    return host[0] == 3.14159f + 1e8f;
}

// Polls the stream, which never waits, until the sum has ended. Whether the group's fault has this
// text.
static bool says(const struct rank *r, const char *text)
{
    while (cudaStreamQuery(r->sums) == cudaErrorNotReady)
        ;
    const char *fault = group_fault(r->group);
    if (fault && strstr(fault, text))
        return true;
    fprintf(stderr, "rank %d: %s\n", r->number, fault ? fault : "no fault");
    return false;
}
static bool call_others(const struct rank *r)
{
    float *x = device<float>(8);
    group_sum(r->group, x, 8, GROUP_FLOAT, r->number ? GROUP_ALL : 0, r->sums);
    return says(r, r->number ? "rank 1 calls s of 32 bytes to -1, rank 0 s of 32 to 0"
                             : "rank 0 calls s of 32 bytes to 0, rank 1 s of 32 to -1");
}
static bool lose_one(const struct rank *r)
{
    setenv("CUDASIM_GROUP_TIMEOUT", "1", 1);
    if (r->number == 1)
        _exit(0);
    float *x = device<float>(8);
    group_sum(r->group, x, 8, GROUP_FLOAT, GROUP_ALL, r->sums);
    return says(r, "rank 0 waited 1 s for the others");
}
static int run_rank(int number, const unsigned char name[GROUP_NAME],
                    bool (*test)(const struct rank *r))
{
    char why[256];
    struct rank r = {};
    r.number = number;
    must(cudaStreamCreateWithFlags(&r.work, cudaStreamNonBlocking));
    must(cudaStreamCreateWithFlags(&r.sums, cudaStreamNonBlocking));
    must(cudaEventCreate(&r.fork));
    must(cudaEventCreate(&r.join));
    r.group = group_new(name, number, ranks, test ? number : 0, why);
    if (!test)
        return r.group || !strstr(why, "ranks 0 and 1 are both on GPU 0: ranks must not share");
    if (!r.group)
        return 1;
    const bool good = test(&r);
    group_free(r.group, false);
    must(cudaStreamDestroy(r.work));
    must(cudaStreamDestroy(r.sums));
    return !good;
}

// Passes if `test` is true in both of two processes. If test is NULL, passes if they can't join on
// one GPU.
static void both(const char *name, bool (*test)(const struct rank *r))
{
    unsigned char group[GROUP_NAME];
    char why[256];
    pid_t children[ranks];
    if (group_make(group, why) < 0) {
        ok(false, "%s", why);
        return;
    }
    fflush(stdout);
    for (int r = 0; r < ranks; r++)
        if ((children[r] = fork()) == 0)
            _exit(run_rank(r, group, test));
    int statuses[ranks];
    for (int r = 0; r < ranks; r++)
        waitpid(children[r], &statuses[r], 0);
    if (!ok(statuses[0] == 0 && statuses[1] == 0, "%s", name))
        diag("statuses %x and %x", statuses[0], statuses[1]);
}

int main()
{
    for (int lazy = 0; lazy < 2; lazy++) {
        if (lazy)
            setenv("CUDASIM_STREAMS", "lazy", 1);
        const char *how = lazy ? ", lazy streams" : "";
        char name[128];
        const struct {
            const char *name;
            bool (*test)(const struct rank *r);
        } tests[] = {
            {"floats are summed to all", sum_floats},
            {"doubles are summed to all", sum_doubles},
            {"arrays are summed to one rank alone", sum_to_one},
            {"all ranks add in the same order", same_bits},
            {"bytes are copied to all", broadcast},
            {"a graph holds sums", replay_graph},
            {"a graph that joins its sums too late gives wrong results", replay_unjoined},
            {"ranks that call different sums get an error", call_others},
            {"the other rank gets an error if one ends", lose_one},
            {"ranks must not share a GPU", nullptr},
        };
        for (const auto &t : tests) {
            snprintf(name, sizeof name, "%s%s", t.name, how);
            both(name, t.test);
        }
    }
    both("a sum that nobody waits for has no result yet (lazy streams)", forget_to_wait);
    return tap_done();
}
