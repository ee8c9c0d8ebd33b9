// Measures each operation of one pass of a program (profile.h). SPDX-License-Identifier: MIT
#include "kernels/cuda/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/op-costs.h"

enum operation {
#define OP(name, cpu, params, args) OP_##name,
#include "kernels/ops.def"
#undef OP
};

static const char *const operation_names[] = {
#define OP(name, cpu, params, args) #name,
#include "kernels/ops.def"
#undef OP
};

struct cost {
    double flops, bytes;
};

static struct cost make_cost(double flops, double bytes)
{
    return {flops, bytes};
}

// A call of an operation, and calls of the same cost once they are added up.
struct profiled_call {
    enum operation operation;
    struct cost cost;
    cudaEvent_t start, end;
    double ms;
    int count;
};

enum profile_state { PROFILE_WAITS, PROFILE_RUNS, PROFILE_DONE };

#define CALLS_MAX 16384
struct profile {
    const char *path;
    enum profile_state state;
    struct profiled_call calls[CALLS_MAX];
    int n;
};

// Returns NULL if the call is not measured.
static struct profiled_call *begin_call(struct device *device, enum operation operation,
                                        struct cost cost)
{
    struct profile *p = cuda_state(device)->profile;
    if (p->state != PROFILE_RUNS || p->n == CALLS_MAX)
        return NULL;
    struct profiled_call *call = &p->calls[p->n++];
    *call = {};
    call->operation = operation;
    call->cost = cost;
    call->count = 1;
    cuda_check(device, cudaEventCreate(&call->start), "profiling");
    cuda_check(device, cudaEventCreate(&call->end), "profiling");
    cuda_check(device, cudaEventRecord(call->start, cuda_state(device)->stream), "profiling");
    return call;
}

static void end_call(struct device *device, struct profiled_call *call)
{
    if (call)
        cuda_check(device, cudaEventRecord(call->end, cuda_state(device)->stream), "profiling");
}

// The operations of struct op_table, each of which measures the backend's own.
#define OP(name, cpu, params, args)                                                         \
    static void profiled_##name(struct device *device OP_PARAMS params)                     \
    {                                                                                       \
        const double A = static_cast<double>(device->backend->act_size), F = sizeof(float); \
        (void)A, (void)F;                                                                   \
        const struct cost cost = make_cost(COST_##name);                                    \
        struct profiled_call *call = begin_call(device, OP_##name, cost);                   \
        device->backend->ops->name(device OP_ARGS args);                                    \
        end_call(device, call);                                                             \
    }
#include "kernels/ops.def"
#undef OP

static const struct op_table profiled_ops = {
#define OP(name, cpu, params, args) profiled_##name,
#include "kernels/ops.def"
#undef OP
};

static bool is_same(const struct profiled_call *a, const struct profiled_call *b)
{
    return a->operation == b->operation && a->cost.flops == b->cost.flops &&
           a->cost.bytes == b->cost.bytes;
}

// Adds up the calls of the same operation and cost, and returns how many rows that leaves. *span is
// the time from the first call's start to the last one's end.
static int add_up(struct profile *p, double *span)
{
    int rows = 0;
    float ms = 0;
    if (p->n && cudaEventElapsedTime(&ms, p->calls[0].start, p->calls[p->n - 1].end) == cudaSuccess)
        *span = ms;
    for (int i = 0; i < p->n; i++) {
        if (cudaEventElapsedTime(&ms, p->calls[i].start, p->calls[i].end) == cudaSuccess)
            p->calls[i].ms = ms;
    }
    for (int i = 0; i < p->n; i++) {
        const struct profiled_call call = p->calls[i];
        cudaEventDestroy(call.start);
        cudaEventDestroy(call.end);
        int row = 0;
        while (row < rows && !is_same(&p->calls[row], &call))
            row++;
        if (row == rows) {
            p->calls[rows++] = call;
        } else {
            p->calls[row].ms += call.ms;
            p->calls[row].count++;
        }
    }
    return rows;
}

static int compare_times(const void *a, const void *b)
{
    const double x = static_cast<const struct profiled_call *>(a)->ms,
                 y = static_cast<const struct profiled_call *>(b)->ms;
    return (x < y) - (x > y);
}

static void write_table(const struct profile *p, int rows, double span, const char *device)
{
    FILE *file = fopen(p->path, "a");
    if (!file) {
        perror(p->path);
        return;
    }
    double total = 0;
    for (int i = 0; i < rows; i++)
        total += p->calls[i].ms;
    fprintf(file, "# one pass on %s: %d operations, %.3f ms in all, within %.3f ms\n", device, p->n,
            total, span);
    fprintf(file, "%-38s %6s %10s %5s %10s %10s %12s %12s\n", "# operation", "count", "ms", "%",
            "GFLOP each", "MB each", "GB/s", "TFLOP/s");
    for (int i = 0; i < rows; i++) {
        const struct profiled_call *c = &p->calls[i];
        const double rate = c->ms > 0 ? c->count / c->ms : 0; // a millisecond
        fprintf(file, "%-38s %6d %10.3f %5.1f %10.4g %10.4g %12.1f %12.3f\n",
                operation_names[c->operation], c->count, c->ms, total > 0 ? 100 * c->ms / total : 0,
                1e-9 * c->cost.flops, 1e-6 * c->cost.bytes, 1e-6 * rate * c->cost.bytes,
                1e-9 * rate * c->cost.flops);
    }
    fclose(file);
}

static void end_pass(struct device *device, struct profile *p)
{
    double span = 0;
    p->state = PROFILE_DONE;
    cuda_check(device, cudaDeviceSynchronize(), "profiling");
    const int rows = add_up(p, &span);
    qsort(p->calls, static_cast<size_t>(rows), sizeof *p->calls, compare_times);
    write_table(p, rows, span, device->description);
}

struct profile *profile_new(struct device *device)
{
    const char *path = getenv("DIT_CUDA_PROFILE");
    struct profile *p = path && *path ? static_cast<struct profile *>(calloc(1, sizeof *p)) : NULL;
    if (!p)
        return NULL;
    p->path = path;
    device->ops = &profiled_ops;
    return p;
}

void profile_free(struct device *device, struct profile *profile)
{
    if (profile && profile->state == PROFILE_RUNS)
        end_pass(device, profile);
    free(profile);
}

bool profile_takes(struct device *device, struct profile *profile, bool *measured)
{
    if (!profile || profile->state == PROFILE_DONE)
        return false;
    if (*measured) {
        end_pass(device, profile);
        return false;
    }
    profile->state = PROFILE_RUNS;
    *measured = true;
    return true;
}
