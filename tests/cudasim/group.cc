// Replaces NCCL in the simulator: implements kernels/cuda/group.h for processes of one machine,
// through shared memory. SPDX-License-Identifier: MIT
//
// A sum is an operation of a stream. It adds in the order of the ranks and checks that all of them
// make the same call. A lost rank can't report itself, so waiting for the others has a time limit.
//
// As with NCCL, the first call of a kind, for few or for many bytes, takes device memory; and
// freeing a group waits for the graphs that hold its sums, which is an error here if they still
// exist when all work is done, as NCCL would wait for ever.
#include "kernels/cuda/group.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "sim.h"

namespace
{
constexpr int max_ranks = 16;
constexpr size_t large = 32 << 20, buffer_size = 1 << 20; // bytes
constexpr size_t part = 256 << 10;                        // bytes that ranks exchange at a time

struct group_call {
    char kind; // 's' or 'd' for a sum of floats or doubles, 'b' for a broadcast
    int root;
    size_t bytes;
    bool operator==(const group_call &other) const
    {
        return kind == other.kind && root == other.root && bytes == other.bytes;
    }
};

// The memory that the ranks share, initially zero.
struct common {
    std::atomic<uint64_t> arrivals;
    int gpus[max_ranks];
    group_call calls[max_ranks];
    alignas(64) char shown[max_ranks][part];
};
} // namespace

struct group {
    int rank, size;
    common *shared;
    uint64_t rounds;
    char fault[160];
    std::map<std::string, void *> buffers; // device memory for each kind of call
    std::shared_ptr<int> users;            // each sum that is under way, or in a graph, has a copy
    std::thread clock;
    std::atomic<bool> over;
};

using namespace cudasim;

static double seconds()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

__attribute__((format(printf, 2, 3))) static bool fail(group *g, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (!g->fault[0])
        vsnprintf(g->fault, sizeof g->fault, format, ap);
    va_end(ap);
    return false;
}

// Waits until all ranks have called this. False with a fault if that takes too long.
static bool wait_for_ranks(group *g)
{
    const double limit = static_cast<double>(setting("CUDASIM_GROUP_TIMEOUT", 30));
    const double start = seconds();
    const uint64_t all = ++g->rounds * static_cast<uint64_t>(g->size);
    const timespec pause = {0, 20000};
    g->shared->arrivals++;
    while (g->shared->arrivals < all) {
        if (seconds() - start > limit)
            return fail(g, "rank %d waited %.0f s for the others", g->rank, limit);
        nanosleep(&pause, nullptr);
    }
    return true;
}

static bool calls_agree(group *g, const group_call &call)
{
    for (int r = 0; r < g->size; r++)
        if (!(g->shared->calls[r] == call))
            return fail(g, "rank %d calls %c of %zu bytes to %d, rank %d %c of %zu to %d", g->rank,
                        call.kind, call.bytes, call.root, r, g->shared->calls[r].kind,
                        g->shared->calls[r].bytes, g->shared->calls[r].root);
    return true;
}

template <class T> static void add_shown(const group *g, char *to, size_t bytes)
{
    T *x = reinterpret_cast<T *>(to);
    for (size_t i = 0; i < bytes / sizeof(T); i++) {
        x[i] = 0;
        for (int r = 0; r < g->size; r++)
            x[i] += reinterpret_cast<const T *>(g->shared->shown[r])[i];
    }
}

// Stores the result of the call for one part of x.
static void store_result(const group *g, const group_call &call, char *x, size_t bytes)
{
    const bool mine = call.root == GROUP_ALL || call.root == g->rank;
    if (call.kind == 'b')
        memcpy(x, g->shared->shown[call.root], bytes);
    else if (!mine)
        memset(x, poison, bytes);
    else if (call.kind == 'd')
        add_shown<double>(g, x, bytes);
    else
        add_shown<float>(g, x, bytes);
}

static void perform(group *g, char *x, const group_call &call)
{
    for (size_t at = 0; at < call.bytes && !g->fault[0]; at += part) {
        const size_t bytes = std::min(part, call.bytes - at);
        g->shared->calls[g->rank] = call;
        memory_open();
        memcpy(g->shared->shown[g->rank], x + at, bytes);
        memory_close();
        if (!wait_for_ranks(g) || !calls_agree(g, call))
            return;
        memory_open();
        store_result(g, call, x + at, bytes);
        memory_close();
        wait_for_ranks(g);
    }
}

static void take_buffer(group *g, const group_call &call)
{
    const std::string kind = {call.kind == 'b' ? 'b' : 's', call.root == GROUP_ALL ? 'a' : 'o',
                              call.bytes >= large ? 'l' : 's'};
    if (!g->buffers.count(kind) && cudaMalloc(&g->buffers[kind], buffer_size) != cudaSuccess)
        fail(g, "no memory on the GPU for another algorithm");
}

static void start(group *g, void *x, const group_call &call, cudaStream_t stream)
{
    const cudasim::call c;
    take_buffer(g, call);
    if (!is_device(x, call.bytes))
        fail(g, "%p and %zu bytes from there are not the device's", x, call.bytes);
    const auto user = g->users;
    const cudaError_t error =
        issue(stream, [=] { perform(user ? g : nullptr, static_cast<char *>(x), call); });
    if (error != cudaSuccess)
        fail(g, "%s", cudaGetErrorString(error));
}

void group_sum(struct group *g, void *x, size_t n, enum group_type type, int root,
               cudaStream_t stream)
{
    const bool big = type == GROUP_DOUBLE;
    start(g, x, {big ? 'd' : 's', root, n * (big ? sizeof(double) : sizeof(float))}, stream);
}

void group_broadcast(struct group *g, void *x, size_t bytes, int root, cudaStream_t stream)
{
    start(g, x, {'b', root, bytes}, stream);
}

const char *group_fault(struct group *g)
{
    const call c;
    return g->fault[0] ? g->fault : nullptr;
}

int group_make(unsigned char name[GROUP_NAME], char why[256])
{
    char *path = reinterpret_cast<char *>(name);
    memset(path, 0, GROUP_NAME);
    snprintf(path, GROUP_NAME, "/cudasim-group-%d-%.0f", getpid(), seconds() * 1e9);
    const int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(common)) != 0) {
        snprintf(why, 256, "%s: %s", path, strerror(errno));
        return -1;
    }
    close(fd);
    return 0;
}

// Waits for the other ranks. False with a fault if they don't come or two of them have the same
// GPU.
static bool join(group *g, const char *path, int gpu)
{
    g->shared->gpus[g->rank] = gpu;
    const bool complete = wait_for_ranks(g);
    if (g->rank == 0)
        shm_unlink(path);
    if (!complete)
        return false;
    for (int r = 0; r < g->size; r++)
        if (r != g->rank && g->shared->gpus[r] == gpu)
            return fail(g, "ranks %d and %d are both on GPU %d: ranks must not share a GPU",
                        std::min(r, g->rank), std::max(r, g->rank), gpu);
    return true;
}

struct group *group_new(const unsigned char name[GROUP_NAME], int rank, int size, int gpu,
                        char why[256])
{
    const char *path = reinterpret_cast<const char *>(name);
    const int fd = shm_open(path, O_RDWR, 0);
    void *shared = fd < 0 || size > max_ranks
                       ? MAP_FAILED
                       : mmap(nullptr, sizeof(common), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (shared == MAP_FAILED) {
        snprintf(why, 256, "%.120s: no group of %d ranks", path, size);
        return nullptr;
    }
    group *g = new group();
    g->users = std::make_shared<int>();
    g->rank = rank;
    g->size = size;
    g->shared = static_cast<common *>(shared);
    if (!join(g, path, gpu)) {
        snprintf(why, 256, "%s", g->fault);
        group_free(g, true);
        return nullptr;
    }
    // With lazy streams the work is done at every tick, as other ranks may wait for it.
    if (lazy())
        g->clock = std::thread([g] {
            const timespec tick = {0, 200000000};
            while (!g->over) {
                nanosleep(&tick, nullptr);
                const call c;
                finish_all();
            }
        });
    return g;
}

void group_free(struct group *g, bool abort)
{
    g->over = true;
    if (g->clock.joinable())
        g->clock.join();
    if (abort)
        fail(g, "aborted"); // ends the sums under way
    cudaDeviceSynchronize();
    if (g->users.use_count() > 1) {
        fprintf(stderr, "cudasim: a group is freed, but graphs still hold %ld of its sums\n",
                g->users.use_count() - 1);
        ::abort();
    }
    for (const auto &buffer : g->buffers)
        cudaFree(buffer.second);
    munmap(g->shared, sizeof(common));
    delete g;
}
