// check-group DEVICE [RANKS [lose | lose-late]] tests the group_ and send functions of struct
// backend. SPDX-License-Identifier: MIT
//
// RANKS processes, each with its own device, sum, copy, and send data while they compute. With
// "cuda" rank N uses cuda:N; with "cuda:0" all share one GPU, which must be an error. With "lose"
// the last rank ends too early; with "lose-late" when the others wait for its part of a recorded
// sum.
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "lib/base/mem.h"
#include "tests/tap.h"

#define RANKS_MAX 16
#define TESTS     8
#define BLOCKS    5
#define MANY      ((size_t)9 << 20) // floats: more than fit in the pinned memory for uploads

// The memory that the processes share.
struct common {
    _Atomic enum { WAITING, MADE, FAILED } state; // whether rank 0 has made the group
    unsigned char name[GROUP_NAME];
    char said[RANKS_MAX][256];
    bool passed[RANKS_MAX][TESTS];
};
static struct common *common;
static int rank, ranks = 1;
static bool lose, lose_late;
static size_t free_at_first; // bytes of the device, once the group was joined
static struct device *device;
static const struct backend *backend;

static void fill(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        x[i] = factor * (float)(i % 1000);
}
static bool holds(const float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != factor * (float)(i % 1000))
            return false;
    return true;
}
static float *to_device(size_t n, float factor)
{
    float *x = device_alloc(device, n * sizeof *x), *host = mem_new(n, sizeof *host);
    fill(host, n, factor);
    device_upload(device, x, host, n * sizeof *host);
    free(host);
    return x;
}
static bool device_holds(const float *x, size_t n, float factor)
{
    float *host = mem_new(n, sizeof *host);
    device_download(device, host, x, n * sizeof *host);
    bool good = holds(host, n, factor);
    free(host);
    return good;
}
static float sum_of_ranks(void) // each counts from 1
{
    return (float)(ranks * (ranks + 1) / 2);
}

static bool sum_floats(int root)
{
    size_t n = 100003;
    float *x = to_device(n, (float)(rank + 1));
    backend->group_sum(device, x, n, GROUP_FLOAT, root);
    backend->group_wait(device);
    bool good = device_holds(x, n, sum_of_ranks()) || (root != GROUP_ALL && root != rank);
    device_release(device, x);
    return good;
}
static bool sum_to_all(void)
{
    return sum_floats(GROUP_ALL);
}
static bool sum_to_last(void)
{
    return sum_floats(ranks - 1);
}

static bool sum_doubles(void)
{
    double host[2] = {rank + 1, 1e-9}, *x = device_alloc(device, sizeof host);
    device_upload(device, x, host, sizeof host);
    backend->group_sum(device, x, 2, GROUP_DOUBLE, GROUP_ALL);
    backend->group_wait(device);
    device_download(device, host, x, sizeof host);
    device_release(device, x);
    return host[0] == (double)sum_of_ranks() && host[1] > (ranks - 0.5) * 1e-9;
}

static bool broadcast(void)
{
    size_t n = 1000003;
    float *x = to_device(n, (float)(rank + 3));
    backend->group_broadcast(device, x, n * sizeof *x, ranks - 1);
    backend->group_wait(device);
    bool good = device_holds(x, n, (float)(ranks + 2));
    device_release(device, x);
    return good;
}

// Like a backward pass: each block is summed while the next one is computed. The sum of `early`
// begins before the pass.
struct backward_pass {
    float *base, *own, *early, *blocks, *results;
    size_t n;
};
static void run_backward_pass(void *user)
{
    struct backward_pass *p = user;
    for (size_t b = 0; b < BLOCKS; b++) {
        float *block = p->blocks + b * p->n;
        op_latent_draw(device, block, p->base, p->base, p->own, p->n);
        backend->group_sum(device, block, p->n, GROUP_FLOAT, GROUP_ALL);
    }
    backend->group_wait(device);
    for (size_t b = 0; b < BLOCKS; b++)
        op_latent_draw(device, p->results + b * p->n, p->blocks + b * p->n, p->early, p->own, p->n);
}
static bool sum_beside_work(void)
{
    size_t n = 4096;
    struct backward_pass p = {to_device(n, 1),
                              device_alloc(device, n * sizeof(float)),
                              device_alloc(device, n * sizeof(float)),
                              device_alloc(device, BLOCKS * n * sizeof(float)),
                              device_alloc(device, BLOCKS * n * sizeof(float)),
                              n};
    float *own = mem_new(n, sizeof *own);
    for (size_t i = 0; i < n; i++)
        own[i] = (float)(rank + 1);
    device_upload(device, p.own, own, n * sizeof *own);
    free(own);
    void *record = NULL;
    bool good = true;
    for (int i = 0; i < 4; i++) {
        if (lose_late && i == 3 && rank == ranks - 1)
            _exit(0);
        device_zero(device, p.blocks, BLOCKS * n * sizeof(float));
        device_copy(device, p.early, p.base, n * sizeof(float));
        backend->group_sum(device, p.early, n, GROUP_FLOAT, GROUP_ALL);
        device_repeat(device, &record, run_backward_pass, &p);
        for (size_t b = 0; b < BLOCKS; b++)
            good = good && device_holds(p.results + b * n, n,
                                        sum_of_ranks() + (float)(ranks + ranks * (rank + 1)));
    }
    device_forget(device, &record);
    float *memory[] = {p.base, p.own, p.early, p.blocks, p.results};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        device_release(device, memory[i]);
    return good;
}

// Each step uses the data that were sent during the step before.
static bool send_beside_work(void)
{
    float *host = mem_new(MANY, sizeof *host);
    fill(host, MANY, 1);
    float *sent[2] = {device_alloc(device, MANY * sizeof(float)),
                      device_alloc(device, MANY * sizeof(float))},
          *seen = device_alloc(device, MANY * sizeof(float));
    backend->send(device, sent[1], host, MANY * sizeof *host);
    bool good = true;
    for (int step = 1; step < 4; step++) {
        backend->send_wait(device);
        device_copy(device, seen, sent[step % 2], MANY * sizeof *seen);
        fill(host, MANY, (float)(step + 1));
        backend->send(device, sent[(step + 1) % 2], host, MANY * sizeof *host);
        fill(host, MANY, -1);
        good = good && device_holds(seen, MANY, (float)step);
    }
    free(host);
    device_release(device, sent[0]);
    device_release(device, sent[1]);
    device_release(device, seen);
    return good;
}

// NCCL must not take memory that was planned for something else. A real GPU may have other users.
static bool takes_no_more_memory(void)
{
    return strncmp(device->description, "simulated", 9) != 0 ||
           backend->memory_free(device) == free_at_first;
}

static bool went_well(void)
{
    const char *error = device_error(device);
    snprintf(common->said[rank], sizeof common->said[rank], "%s", error ? error : "");
    return !error;
}

static const struct {
    const char *promise;
    bool (*check)(void);
} tests[TESTS] = {
    {"floats are summed to all", sum_to_all},
    {"floats are summed to one", sum_to_last},
    {"doubles are summed to all", sum_doubles},
    {"bytes are copied to all", broadcast},
    {"sums run while the device repeats work", sum_beside_work},
    {"data that are sent while the device computes arrive", send_beside_work},
    {"the group takes all its memory when it is joined", takes_no_more_memory},
    {"nothing failed", went_well},
};

// Opens the device of this rank.
static struct device *open_own(const char *name, char why[256])
{
    char own[64];
    const size_t length = strcspn(name, ",");
    if (memchr(name, ':', length))
        return device_open(name, 1, why);
    snprintf(own, sizeof own, "%.*s:%d%.20s", (int)length, name, rank, name + length);
    return device_open(own, 1, why);
}

// Joins the group, which rank 0 makes.
static int join(const char *name, char why[256])
{
    snprintf(why, 256, "rank 0 made no group");
    if (rank == 0) {
        if (!(device = open_own(name, why)) || !device->backend->group_make ||
            device->backend->group_make(common->name, why) < 0) {
            common->state = FAILED;
            return -1;
        }
        common->state = MADE;
    }
    while (common->state == WAITING)
        usleep(1000);
    if (common->state == FAILED || (!device && !(device = open_own(name, why))))
        return -1;
    backend = device->backend;
    return backend->group_join(device, common->name, rank, ranks, why);
}

static void run_rank(const char *name)
{
    if (join(name, common->said[rank]) < 0)
        _exit(1);
    free_at_first = backend->memory_free(device);
    if (lose && rank == ranks - 1)
        _exit(0);
    for (int t = 0; t < TESTS; t++)
        common->passed[rank][t] = tests[t].check();
    if (!lose)
        device_close(device);
    _exit(0);
}

int main(int argc, char **argv)
{
    ranks = argc > 2 ? atoi(argv[2]) : 1;
    if (argc < 2 || ranks < 1 || ranks > RANKS_MAX)
        return 64;
    lose = argc > 3 && strcmp(argv[3], "lose") == 0;
    lose_late = argc > 3 && strcmp(argv[3], "lose-late") == 0;
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (common == MAP_FAILED)
        return 70;
    for (rank = 0; rank < ranks; rank++)
        if (fork() == 0)
            run_rank(argv[1]);
    while (wait(NULL) > 0)
        ;
    if (strstr(common->said[0], "install NCCL")) {
        skip("GPUs sum together", common->said[0]);
        return tap_done();
    }
    for (int t = 0; t < TESTS; t++) {
        bool good = true;
        for (int r = 0; r < ranks; r++)
            good = good && common->passed[r][t];
        ok(good, "%d of %s: %s", ranks, argv[1], tests[t].promise);
    }
    for (int r = 0; r < ranks; r++)
        if (common->said[r][0])
            diag("rank %d: %s", r, common->said[r]);
    return tap_done();
}
