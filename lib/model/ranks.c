// The processes that train together, by MPI. SPDX-License-Identifier: MIT
//
// A worker thread sums arrays in host memory while the backward pass goes on. Only one thread may
// call MPI at a time, so the calls of all others wait until the worker has nothing left to do.
#include "lib/model/ranks.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/plugin.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/io.h"
#include "lib/base/mapping.h"
#include "lib/base/mem.h"
#include "lib/model/ranks-mpi.h"

#define VARIABLE "DIT_MPI_PLUGIN"
#define PLUGIN   "dit-mpi.so"

// A collective operation on host memory that the worker is to carry out.
struct collective {
    void *data;
    size_t n; // elements; of BROADCAST bytes
    enum { SUM_FLOATS, SUM_DOUBLES, BROADCAST } kind;
    int root; // the rank that gets the sum (GROUP_ALL: all) or sends the bytes
};

struct ranks {
    struct mpi_calls mpi;
    struct rank *self;          // the caller's
    char (*machines)[MPI_NAME]; // each rank's host name

    pthread_t worker;
    bool working; // the worker was started
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct collective *queue; // queue[next .. queued - 1] are to be done or under way
    size_t next, queued;
    bool stop;
};

// The number of processes that the launcher started, from its environment; 1 without a launcher.
static int count_launched(const char **launcher)
{
    static const struct {
        const char *variable, *launcher;
    } variables[] = {{"OMPI_COMM_WORLD_SIZE", "mpirun"},
                     {"PMI_SIZE", "the launcher"},
                     {"SLURM_STEP_NUM_TASKS", "srun"}};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *text = getenv(variables[i].variable);
        long n = text ? strtol(text, NULL, 10) : 0;
        *launcher = variables[i].launcher;
        if (n > 0 && n < 1 << 20)
            return (int)n;
    }
    return 1;
}

static int start_mpi(struct ranks *r, int launched, const char *launcher)
{
    char path[PLUGIN_PATH], why[256];
    if (!plugin_find(VARIABLE, PLUGIN, path))
        return error_set(STATUS_USAGE,
                         "%s started %d ranks, but there is no MPI plug-in (" PLUGIN
                         "); build with mpicc on the PATH",
                         launcher, launched);
    // RTLD_GLOBAL, as MPI loads plug-ins of its own that need its symbols.
    void *plugin = plugin_load(path, "MPI", RTLD_NOW | RTLD_GLOBAL, why);
    if (!plugin)
        return error_set(STATUS_USAGE, "%s", why);
    void (*open_mpi)(struct mpi_calls *);
    *(void **)&open_mpi = dlsym(plugin, "dit_mpi_open");
    if (open_mpi)
        open_mpi(&r->mpi);
    if (r->mpi.size != sizeof r->mpi)
        return error_set(STATUS_USAGE,
                         "the MPI plug-in %s does not match this program; rebuild both with make",
                         path);
    if (r->mpi.ranks != launched)
        return error_set(STATUS_USAGE,
                         "%s started %d ranks, but MPI sees %d: it belongs to another MPI than the "
                         "one that " PLUGIN " was built with, or needs an option (srun "
                         "--mpi=pmix)",
                         launcher, launched, r->mpi.ranks);
    return 0;
}

static int exchange_names(struct ranks *r)
{
    char own[MPI_NAME] = "";
    r->machines = mem_new((size_t)r->mpi.ranks, sizeof *r->machines);
    if (!r->machines)
        return -1;
    gethostname(own, sizeof own - 1);
    r->mpi.allgather(own, r->machines, sizeof own);
    *r->self = (struct rank){.index = r->mpi.rank, .count = r->mpi.ranks};
    for (int rank = 0; rank < r->mpi.ranks; rank++) {
        if (rank == r->mpi.rank)
            r->self->local_index = r->self->local_count;
        r->self->local_count += strcmp(r->machines[rank], own) == 0;
    }
    return 0;
}

static int check_same_program(struct ranks *r, int argc, char **argv)
{
    struct mapping program = {0};
    int rc = ranks_check(r, file_map("/proc/self/exe", &program));
    if (rc == 0)
        rc = ranks_check_same(r, STATUS_USAGE, "another build of this program", program.data,
                              program.size);
    file_unmap(&program);
    char *line = mem_strdup("");
    for (int i = 1; i < argc && line; i++) {
        char *longer = mem_printf("%s %s", line, argv[i]);
        free(line);
        line = longer;
    }
    if (rc == 0)
        rc = ranks_check(r, line ? 0 : -1);
    if (rc == 0)
        rc = ranks_check_same(r, STATUS_USAGE, "other arguments", line, strlen(line));
    free(line);
    return rc;
}

// At exit. If the process ends with an error that the others don't know of, kills them, as they
// might wait for this rank forever.
static void leave_ranks(int status, void *arg)
{
    struct ranks *r = arg;
    if (r->mpi.ranks == 1)
        return;
    if (status == STATUS_OK || status == STATUS_STOPPED || r->self->agreed)
        r->mpi.finalize();
    else
        r->mpi.abort(status);
}

static void run_collective(struct ranks *r, const struct collective *c)
{
    if (c->kind == BROADCAST)
        r->mpi.broadcast(c->data, c->n, c->root);
    else
        r->mpi.sum(c->data, c->n, c->kind == SUM_DOUBLES, c->root);
}

// The worker: hands what is queued to MPI until it is told to stop.
static void *work_on_queue(void *arg)
{
    struct ranks *r = arg;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (r->next == r->queued && !r->stop)
            pthread_cond_wait(&r->changed, &r->lock);
        if (r->next == r->queued)
            break;
        struct collective next = r->queue[r->next];
        pthread_mutex_unlock(&r->lock);
        run_collective(r, &next);
        pthread_mutex_lock(&r->lock);
        r->next++;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

struct ranks *ranks_open(int argc, char **argv, struct rank *self)
{
    static struct ranks ranks; // static, because leave_ranks runs after main
    struct ranks *r = &ranks;
    const char *launcher;
    int launched = count_launched(&launcher);
    *r = (struct ranks){.mpi.ranks = 1, .self = self};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    if (launched == 1)
        return r;
    if (start_mpi(r, launched, launcher) < 0)
        return NULL;
    on_exit(leave_ranks, r);
    if (exchange_names(r) < 0 || check_same_program(r, argc, argv) < 0)
        return NULL;
    r->working = r->mpi.threads && pthread_create(&r->worker, NULL, work_on_queue, r) == 0;
    return r;
}

void ranks_close(struct ranks *r)
{
    if (!r || r->mpi.ranks == 1)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (r->working)
        pthread_join(r->worker, NULL);
    r->working = false;
    free(r->queue);
    free(r->machines);
    r->queue = NULL;
    r->machines = NULL;
}

int ranks_rank(const struct ranks *r)
{
    return r ? r->mpi.rank : 0;
}

int ranks_size(const struct ranks *r)
{
    return r ? r->mpi.ranks : 1;
}

struct share share_of(size_t n, int rank, int size)
{
    // n * rank / size could overflow.
    size_t each = n / (size_t)size, more = n % (size_t)size, i = (size_t)rank;
    return (struct share){each * i + (i < more ? i : more), each + (i < more)};
}

struct share ranks_share(const struct ranks *r, size_t n)
{
    return share_of(n, ranks_rank(r), ranks_size(r));
}

// Waits until the worker has nothing left to do, so that this thread may call MPI.
static void wait_for_worker(struct ranks *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->next < r->queued)
        pthread_cond_wait(&r->changed, &r->lock);
    r->next = r->queued = 0;
    pthread_mutex_unlock(&r->lock);
}

int ranks_check(struct ranks *r, int rc)
{
    if (ranks_size(r) == 1)
        return rc;
    wait_for_worker(r);
    struct error error = {0};
    double failing = rc < 0 ? r->mpi.rank : r->mpi.ranks, *all;
    if (rc < 0)
        error_save(&error);
    if (!(all = mem_new((size_t)r->mpi.ranks, sizeof *all)))
        return -1;
    r->mpi.allgather(&failing, all, sizeof failing);
    int first = 0;
    while (first < r->mpi.ranks && all[first] == r->mpi.ranks)
        first++;
    free(all);
    if (first == r->mpi.ranks)
        return 0;
    r->mpi.broadcast(&error, sizeof error, first);
    r->self->agreed = true;
    error_restore(&error);
    return error_prefix("rank %d (%s)", first, r->machines[first]);
}

int ranks_check_same(struct ranks *r, int status, const char *what, const void *bytes, size_t size)
{
    if (ranks_size(r) == 1)
        return 0;
    wait_for_worker(r);
    uint64_t hash = hash_bytes(HASH_START, bytes, size), *all;
    if (!(all = mem_new((size_t)r->mpi.ranks, sizeof *all)))
        return -1;
    r->mpi.allgather(&hash, all, sizeof hash);
    int first = 0;
    while (first < r->mpi.ranks && all[first] == all[0])
        first++;
    free(all);
    if (first == r->mpi.ranks)
        return 0;
    r->self->agreed = true;
    return error_set((enum status)status, "rank %d (%s) has %s than rank 0 (%s)", first,
                     r->machines[first], what, r->machines[0]);
}

bool ranks_any(struct ranks *r, bool here)
{
    double count = here;
    ranks_sum(r, &count, 1);
    return count > 0;
}

void ranks_sum(struct ranks *r, double *x, size_t n)
{
    if (ranks_size(r) == 1)
        return;
    wait_for_worker(r);
    r->mpi.sum(x, n, true, GROUP_ALL);
}

void ranks_broadcast(struct ranks *r, void *bytes, size_t size)
{
    if (ranks_size(r) == 1)
        return;
    wait_for_worker(r);
    r->mpi.broadcast(bytes, size, 0);
}

void ranks_receive(struct ranks *r, int from, void *bytes, size_t size)
{
    if (ranks_size(r) == 1)
        return;
    wait_for_worker(r);
    r->mpi.receive(from, bytes, size);
}

int ranks_join(struct ranks *r, struct device *device)
{
    unsigned char name[GROUP_NAME];
    char why[256];
    if (ranks_size(r) == 1 || !device->backend->group_join)
        return 0;
    int rc = r->mpi.rank == 0 ? device->backend->group_make(name, why) : 0;
    if (ranks_check(r, rc < 0 ? error_set(STATUS_USAGE, "%s", why) : 0) < 0)
        return -1;
    ranks_broadcast(r, name, sizeof name);
    rc = device->backend->group_join(device, name, r->mpi.rank, r->mpi.ranks, why);
    return ranks_check(r, rc < 0 ? error_set(STATUS_USAGE, "%s", why) : 0);
}

// Queues a collective operation for the worker; without a worker, does it here.
static void queue_collective(struct ranks *r, struct device *device, struct collective collective)
{
    if (!r->working) {
        run_collective(r, &collective);
        return;
    }
    pthread_mutex_lock(&r->lock);
    if (mem_grow(&r->queue, r->queued, 1, sizeof *r->queue) < 0)
        device_set_error(device, "out of memory for a sum over the ranks");
    else
        r->queue[r->queued++] = collective;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void ranks_device_sum(struct ranks *r, struct device *device, void *x, size_t n,
                      enum group_type type, int root)
{
    if (ranks_size(r) == 1)
        return;
    if (device->backend->group_sum)
        device->backend->group_sum(device, x, n, type, root);
    else
        queue_collective(
            r, device,
            (struct collective){x, n, type == GROUP_DOUBLE ? SUM_DOUBLES : SUM_FLOATS, root});
}

void ranks_device_broadcast(struct ranks *r, struct device *device, void *x, size_t bytes, int root)
{
    if (ranks_size(r) == 1)
        return;
    if (device->backend->group_broadcast)
        device->backend->group_broadcast(device, x, bytes, root);
    else
        queue_collective(r, device, (struct collective){x, bytes, BROADCAST, root});
}

void ranks_device_wait(struct ranks *r, struct device *device)
{
    if (ranks_size(r) == 1)
        return;
    if (device->backend->group_wait)
        device->backend->group_wait(device);
    else
        wait_for_worker(r);
}
