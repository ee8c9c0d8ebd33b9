// The CUDA backend: opens a GPU and manages its memory, graphs and errors.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utility>

#include "kernels/cuda-plugin.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/group.h"
#include "kernels/cuda/profile.h"

#define UPLOAD_STAGE ((size_t)8 << 20)

extern const struct op_table cuda_bf16_ops, cuda_f32_ops;

// Whether a fault has stopped the GPU, so that all further calls fail.
static bool has_stopped(const struct cuda_state *state)
{
    if (state->recording) // a query would be an error, and nothing runs
        return false;
    const cudaError_t error = cudaStreamQuery(state->stream);
    return error != cudaSuccess && error != cudaErrorNotReady;
}

void cuda_check(struct device *device, cudaError_t error, const char *what)
{
    if (error == cudaSuccess || device->error[0])
        return;
    if (has_stopped(cuda_state(device)))
        snprintf(device->error, sizeof device->error,
                 "%s: the GPU stopped: %s (seen at: %s; CUDA_LAUNCH_BLOCKING=1 says where it was)",
                 device->description, cudaGetErrorString(error), what);
    else
        snprintf(device->error, sizeof device->error, "%s: %s: %s", device->description, what,
                 cudaGetErrorString(error));
}

static void cuda_wait(struct device *device)
{
    cuda_wait_for(device, NULL, "waiting for the GPU");
}

static void cuda_zero(struct device *device, void *memory, size_t bytes)
{
    cuda_check(device, cudaMemsetAsync(memory, 0, bytes, cuda_state(device)->stream), "clearing");
}

static void *cuda_alloc(struct device *device, size_t bytes)
{
    void *memory;
    const cudaError_t error = cudaMalloc(&memory, bytes ? bytes : 1);
    if (error != cudaSuccess) {
        if (error != cudaErrorMemoryAllocation)
            cuda_check(device, error, "allocating memory");
        cudaGetLastError(); // clears the error: the caller reports the lack of memory
        return NULL;
    }
    cuda_zero(device, memory, bytes);
    cuda_wait(device); // another stream may be the first to use the memory
    return memory;
}

static void cuda_release(struct device *device, void *memory)
{
    cuda_check(device, cudaFree(memory), "releasing memory");
}

// Allocates the stages, and creates the stream if there is none yet.
static cudaError_t start_staging(struct staging *staging)
{
    cudaError_t error = cudaSuccess;
    if (!staging->stream)
        error = cudaStreamCreateWithFlags(&staging->stream, cudaStreamNonBlocking);
    for (int i = 0; i < UPLOAD_STAGES && error == cudaSuccess; i++) {
        void *memory;
        error = cudaMallocHost(&memory, UPLOAD_STAGE);
        if (error == cudaSuccess) {
            staging->stages[i].memory = static_cast<unsigned char *>(memory);
            error = cudaEventCreateWithFlags(&staging->stages[i].taken, cudaEventDisableTiming);
        }
    }
    return error;
}

static void free_staging(struct staging *staging)
{
    for (struct stage *stage = staging->stages; stage < staging->stages + UPLOAD_STAGES; stage++) {
        cudaFreeHost(stage->memory);
        if (stage->taken)
            cudaEventDestroy(stage->taken);
    }
    if (staging->stream)
        cudaStreamDestroy(staging->stream);
}

// Moves on to the stage that was filled first, once the GPU has copied it.
static void next_stage(struct device *device, struct staging *staging)
{
    cuda_check(device, cudaEventRecord(staging->stages[staging->stage].taken, staging->stream),
               "copying to the GPU");
    staging->stage = (staging->stage + 1) % UPLOAD_STAGES;
    cuda_wait_for(device, staging->stages[staging->stage].taken, "copying to the GPU");
    staging->stages[staging->stage].used = 0;
}

// Copies through pinned memory, so that `from` may be reused as soon as this returns, and the GPU
// copies when it gets there. The host waits only when it is UPLOAD_STAGES * UPLOAD_STAGE bytes
// ahead.
static void copy_staged(struct device *device, struct staging *staging, void *to, const void *from,
                        size_t bytes)
{
    for (size_t at = 0, n; at < bytes; at += n) {
        struct stage *stage = &staging->stages[staging->stage];
        const size_t room = UPLOAD_STAGE - stage->used;
        n = bytes - at < room ? bytes - at : room;
        unsigned char *staged = stage->memory + stage->used;
        memcpy(staged, static_cast<const unsigned char *>(from) + at, n);
        cuda_check(device,
                   cudaMemcpyAsync(static_cast<unsigned char *>(to) + at, staged, n,
                                   cudaMemcpyHostToDevice, staging->stream),
                   "copying to the GPU");
        stage->used += (n + 255) / 256 * 256; // the next copy stays aligned
        if (stage->used == UPLOAD_STAGE)
            next_stage(device, staging);
    }
}

static void cuda_upload(struct device *device, void *to, const void *from, size_t bytes)
{
    copy_staged(device, &cuda_state(device)->uploads, to, from, bytes);
}

static void cuda_send(struct device *device, void *to, const void *from, size_t bytes)
{
    struct cuda_state *state = cuda_state(device);
    if (!state->sent) {
        cudaError_t error = start_staging(&state->sends);
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&state->sent, cudaEventDisableTiming);
        cuda_check(device, error, "memory to send from");
    }
    if (!device->error[0])
        copy_staged(device, &state->sends, to, from, bytes);
}

static void cuda_send_wait(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    if (!state->sent)
        return;
    cuda_check(device, cudaEventRecord(state->sent, state->sends.stream), "copying to the GPU");
    cuda_check(device, cudaStreamWaitEvent(state->stream, state->sent, 0), "copying to the GPU");
}

static void cuda_download(struct device *device, void *to, const void *from, size_t bytes)
{
    if (cuda_state(device)->group) // waiting here notices a lost rank; the copy below would not
        cuda_wait(device);
    cuda_check(device,
               cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda_state(device)->stream),
               "copying from the GPU");
    cuda_wait(device);
    if (device->error[0]) // the caller must not compute with what was left in `to`
        memset(to, 0, bytes);
}

static void cuda_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    cuda_check(
        device,
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_state(device)->stream),
        "copying");
}

void *cuda_scratch(struct device *device, size_t bytes)
{
    struct cuda_state *state = cuda_state(device);
    if (bytes <= state->scratch_size)
        return state->scratch;
    void *memory;
    const cudaError_t error =
        state->recording ? cudaErrorMemoryAllocation : cudaMalloc(&memory, bytes);
    if (error != cudaSuccess) {
        char what[64];
        snprintf(what, sizeof what, "%.2f GB of working memory", static_cast<double>(bytes) * 1e-9);
        cuda_check(device, error, what);
        cudaGetLastError();
        return NULL;
    }
    cuda_wait(device);
    cudaFree(state->scratch);
    state->scratch = memory;
    state->scratch_size = bytes;
    return memory;
}

static void change_sides(struct cuda_state *state)
{
    std::swap(state->stream, state->side.stream);
    std::swap(state->scratch, state->side.scratch);
    std::swap(state->scratch_size, state->side.scratch_size);
    state->side.active = !state->side.active;
}

static void cuda_side_begin(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    cuda_check(device, cudaEventRecord(state->side.fork, state->stream), "forking a stream");
    cuda_check(device, cudaStreamWaitEvent(state->side.stream, state->side.fork, 0),
               "forking a stream");
    change_sides(state);
}

static void cuda_side_end(struct device *device)
{
    change_sides(cuda_state(device));
    cuda_state(device)->side.busy = true;
}

static void cuda_side_wait(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    if (!state->side.busy)
        return;
    cuda_check(device, cudaEventRecord(state->side.join, state->side.stream), "joining a stream");
    cuda_check(device, cudaStreamWaitEvent(state->stream, state->side.join, 0), "joining a stream");
    state->side.busy = false;
}

// One of the device's list of recorded works.
struct record {
    cudaGraphExec_t graph; // from the second run on
    bool measured;         // it has run once for DIT_CUDA_PROFILE
    void *scratch[2];      // the addresses when the graph was recorded, also of the side's
    struct record *next;
};

static cudaError_t make_graph(struct device *device, struct record *record,
                              void (*work)(void *user), void *user)
{
    struct cuda_state *state = cuda_state(device);
    cudaGraph_t graph;
    cudaError_t error = cudaStreamBeginCapture(state->stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess)
        return error;
    state->recording = true;
    work(user);
    state->recording = false;
    error = cudaStreamEndCapture(state->stream, &graph);
    if (error != cudaSuccess)
        return error;
    error = cudaGraphInstantiate(&record->graph, graph, 0);
    cudaGraphDestroy(graph);
    record->scratch[0] = state->scratch;
    record->scratch[1] = state->side.scratch;
    return error;
}

static void free_graph(struct record *record)
{
    if (record->graph)
        cudaGraphExecDestroy(record->graph);
    record->graph = NULL;
}

void cuda_free_graphs(struct device *device)
{
    for (struct record *r = cuda_state(device)->records; r; r = r->next)
        free_graph(r);
}

static void free_record(struct device *device, struct record *record)
{
    struct record **at = &cuda_state(device)->records;
    while (*at != record)
        at = &(*at)->next;
    *at = record->next;
    free_graph(record);
    free(record);
}

// The first time the work simply runs, so that products choose their algorithms and scratch memory
// grows; the second time it is recorded. If scratch memory has moved since, it is recorded again.
static void cuda_repeat(struct device *device, void **at, void (*work)(void *user), void *user)
{
    struct cuda_state *state = cuda_state(device);
    struct record *record = static_cast<struct record *>(*at);
    if (!work) {
        free_record(device, record);
        *at = NULL;
        return;
    }
    if (!record) {
        *at = record = static_cast<struct record *>(calloc(1, sizeof(struct record)));
        if (record) {
            record->next = state->records;
            state->records = record;
        }
        work(user);
        return;
    }
    if (state->group_lost) // what it computes with others can't be repeated
        return;
    cuda_group_wait(device); // as a graph can't wait for sums that began before it
    if (profile_takes(device, state->profile, &record->measured)) {
        work(user);
        return;
    }
    if (record->graph &&
        (record->scratch[0] != state->scratch || record->scratch[1] != state->side.scratch))
        free_graph(record);
    if (!record->graph)
        cuda_check(device, make_graph(device, record, work, user), "recording a graph");
    if (record->graph)
        cuda_check(device, cudaGraphLaunch(record->graph, state->stream), "launching a graph");
}

static void cuda_close(struct device *device)
{
    struct cuda_state *state = cuda_state(device);
    if (!state)
        return;
    cuda_free_graphs(device);
    cuda_group_leave(device);
    profile_free(device, state->profile);
    if (state->gemm)
        gemm_free(state->gemm);
    cudaFree(state->scratch);
    cudaFree(state->side.scratch);
    if (state->side.fork)
        cudaEventDestroy(state->side.fork);
    if (state->side.join)
        cudaEventDestroy(state->side.join);
    if (state->side.stream)
        cudaStreamDestroy(state->side.stream);
    if (state->sent)
        cudaEventDestroy(state->sent);
    free_staging(&state->sends);
    free_staging(&state->uploads);
    free(state);
    device->state = NULL;
}

// The dense bfloat16 rate of the tensor cores, from the data sheets of the H100 and the A100,
// scaled by the number of multiprocessors; tf32 has half of it. 0 if unknown.
static double cuda_peak_flops(struct device *device)
{
    const struct cuda_state *state = cuda_state(device);
    const double whole = state->major == 9   ? 989.4e12 / 132 * state->multiprocessors
                         : state->major == 8 ? 311.9e12 / 108 * state->multiprocessors
                                             : 0;
    const double f32 = state->major == 9 ? 1 / 14.8 : 1 / 16.0;
    return device->backend->act_size == 2 ? whole : state->tf32 ? whole / 2 : whole * f32;
}

static size_t cuda_memory_free(struct device *device)
{
    size_t available = 0, total;
    cuda_check(device, cudaMemGetInfo(&available, &total), "asking for free memory");
    return available;
}

#define CUDA_BACKEND(NAME, TABLE, SIZE)                                                          \
    {                                                                                            \
        .name = NAME, .ops = TABLE, .act_size = SIZE, .host_memory = false, .alloc = cuda_alloc, \
        .release = cuda_release, .upload = cuda_upload, .download = cuda_download,               \
        .copy = cuda_copy, .zero = cuda_zero, .close = cuda_close, .wait = cuda_wait,            \
        .repeat = cuda_repeat, .peak_flops = cuda_peak_flops, .memory_free = cuda_memory_free,   \
        .send = cuda_send, .send_wait = cuda_send_wait, .side_begin = cuda_side_begin,           \
        .side_end = cuda_side_end, .side_wait = cuda_side_wait, .group_make = group_make,        \
        .group_join = cuda_group_join, .group_sum = cuda_group_sum,                              \
        .group_broadcast = cuda_group_broadcast, .group_wait = cuda_group_wait                   \
    }
static const struct backend bf16_backend = CUDA_BACKEND("cuda, bf16", &cuda_bf16_ops, 2);
static const struct backend tf32_backend = CUDA_BACKEND("cuda, tf32", &cuda_f32_ops, 4);
static const struct backend f32_backend = CUDA_BACKEND("cuda, f32", &cuda_f32_ops, 4);

static const struct backend *find_backend(const char *precision)
{
    if (!precision || strcmp(precision, "bf16") == 0)
        return &bf16_backend;
    return strcmp(precision, "tf32") == 0  ? &tf32_backend
           : strcmp(precision, "f32") == 0 ? &f32_backend
                                           : NULL;
}

// -1 with a message if GPU `index` does not exist or is too old.
static int check_gpu(int index, cudaDeviceProp *gpu, char why[256])
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver) {
        snprintf(why, 256,
                 "the NVIDIA driver is missing or older than this build's CUDA; update it, or use "
                 "--device cpu");
        return -1;
    }
    if (error != cudaSuccess || count == 0) {
        snprintf(why, 256, "CUDA finds no GPU (%s); use --device cpu",
                 cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error));
        return -1;
    }
    if (index >= count) {
        snprintf(why, 256, "there is no GPU %d; this machine has %d, from 0", index, count);
        return -1;
    }
    const cudaError_t unknown = cudaGetDeviceProperties(gpu, index);
    if (unknown != cudaSuccess) {
        snprintf(why, 256, "GPU %d does not tell its properties: %s", index,
                 cudaGetErrorString(unknown));
        return -1;
    }
    if (gpu->major < 8) {
        snprintf(why, 256,
                 "GPU %d, %.100s, has compute capability %d.%d; 8.0 (Ampere) or newer is needed",
                 index, gpu->name, gpu->major, gpu->minor);
        return -1;
    }
    return 0;
}

static cudaError_t start_streams(struct cuda_state *state)
{
    struct side *side = &state->side;
    cudaError_t error = cudaSetDevice(state->index);
    if (error == cudaSuccess)
        error = start_staging(&state->uploads);
    state->stream = state->uploads.stream;
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&side->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&side->fork, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&side->join, cudaEventDisableTiming);
    return error;
}

extern "C" const char *dit_cuda_interface(size_t sizes[CUDA_SIZES])
{
    return cuda_interface(sizes);
}

extern "C" int dit_cuda_open(struct device *device, int index, const char *precision, char why[256])
{
    cudaDeviceProp gpu;
    const struct backend *backend = find_backend(precision);
    if (!backend) {
        snprintf(why, 256, "no precision is called %.20s; there are bf16, tf32 and f32", precision);
        return -1;
    }
    if (check_gpu(index, &gpu, why) < 0)
        return -1;
    struct cuda_state *state =
        static_cast<struct cuda_state *>(calloc(1, sizeof(struct cuda_state)));
    if (!state) {
        snprintf(why, 256, "out of memory");
        return -1;
    }
    device->backend = backend;
    device->ops = backend->ops;
    device->state = state;
    snprintf(device->description, sizeof device->description, "%.90s (%s)", gpu.name,
             backend->name);
    state->index = index;
    state->tf32 = backend == &tf32_backend;
    state->multiprocessors = gpu.multiProcessorCount;
    state->major = gpu.major;
    state->block_shared_max = static_cast<int>(gpu.sharedMemPerBlockOptin);
    const cudaError_t error = start_streams(state);
    if (error != cudaSuccess)
        snprintf(why, 256, "GPU %d, %.100s: %s", index, gpu.name, cudaGetErrorString(error));
    else
        state->gemm = gemm_new(device, why);
    if (state->gemm) {
        state->profile = profile_new(device);
        return 0;
    }
    cuda_close(device);
    return -1;
}
