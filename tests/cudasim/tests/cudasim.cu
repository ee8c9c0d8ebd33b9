// Tests that the simulator catches what its README promises: each mistake here is made on purpose.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/cuda.h"

#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "tests/tap.h"

#ifdef __SANITIZE_ADDRESS__
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

constexpr unsigned full_warp = 0xffffffff;

// Runs `mistake` in a process of its own. Passes if the process fails and prints one of the texts.
static void caught(const char *name, void (*mistake)(), std::initializer_list<const char *> texts)
{
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        mistake();
        _exit(0);
    }
    close(ends[1]);
    static char said[1 << 16];
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], said + length, sizeof said - 1 - length)) > 0;)
        length += static_cast<size_t>(n);
    said[length] = '\0';
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    bool found = false;
    for (const char *text : texts)
        found = found || strstr(said, text);
    if (!ok(status != 0 && found, "%s", name))
        diag("status %x: %s", static_cast<unsigned>(status), said);
}

template <class T> static T *device(size_t n)
{
    T *at;
    if (cudaMalloc(&at, n * sizeof(T)) != cudaSuccess)
        abort();
    return at;
}

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "%s\n", cudaGetErrorString(error));
        abort();
    }
}

// How many of the n numbers at x are not `want`.
static int wrong(const int *x, int n, int want)
{
    int host[4096], count = 0;
    must(cudaMemcpy(host, x, n * sizeof *host, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++)
        count += host[i] != want;
    return count;
}

template <bool BARRIER> __global__ void turn_block(int *out)
{
    SHARED(int, box, [256]);
    box[threadIdx.x] = 1;
    if (BARRIER)
        __syncthreads();
    out[blockIdx.x * 256 + threadIdx.x] = box[255 - threadIdx.x];
}
template <bool BARRIER> __global__ void turn_warp(int *out)
{
    SHARED(int, box, [32]);
    box[threadIdx.x] = 1;
    if (BARRIER)
        __syncwarp();
    out[blockIdx.x * 32 + threadIdx.x] = box[31 - threadIdx.x];
}
template <bool WAIT> __global__ void fetch(int *out, const int *in)
{
    SHARED(int, box, [256]);
    cp_async<4>(&box[threadIdx.x], in + threadIdx.x);
    cp_async_commit();
    if (WAIT)
        cp_async_wait<0>();
    out[threadIdx.x] = box[threadIdx.x];
}

static void test_races()
{
    int *out = device<int>(4096), *in = device<int>(256);
    must(LAUNCH((turn_block<true>), 16, 256, 0, 0, out));
    ok(wrong(out, 4096, 1) == 0, "with a barrier all threads see what others wrote");
    must(LAUNCH((turn_block<false>), 16, 256, 0, 0, out));
    ok(wrong(out, 4096, 1) > 0, "without a barrier threads miss writes");
    must(LAUNCH((turn_warp<true>), 128, 32, 0, 0, out));
    ok(wrong(out, 4096, 1) == 0, "with __syncwarp all lanes see what others wrote");
    must(LAUNCH((turn_warp<false>), 128, 32, 0, 0, out));
    ok(wrong(out, 4096, 1) > 0, "without __syncwarp lanes miss writes");
    must(LAUNCH((turn_block<true>), 1, 256, 0, 0, in));
    must(LAUNCH(fetch<true>, 1, 256, 0, 0, out, in));
    ok(wrong(out, 256, 1) == 0, "a copy is there after cp_async_wait");
    must(LAUNCH(fetch<false>, 1, 256, 0, 0, out, in));
    ok(wrong(out, 256, 1) > 0, "a copy is not always there before cp_async_wait");
    must(cudaFree(out));
    must(cudaFree(in));
}

__global__ void lone_shuffle(int *out)
{
    if (threadIdx.x == 5)
        return;
    out[threadIdx.x] = __shfl_xor_sync(full_warp, 1, 16);
}
__global__ void outside_shuffle(int *out)
{
    if (threadIdx.x < 8)
        out[threadIdx.x] = __shfl_sync(0xff, 1, 9);
}
__global__ void foreign_mask(int *out)
{
    out[threadIdx.x] = __any_sync(0xffff, 1);
}
__global__ void half_barrier()
{
    if (threadIdx.x < 32)
        __syncthreads();
}
__global__ void two_barriers()
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
__global__ void warp_apart(int *out)
{
    if (threadIdx.x % 2)
        __syncthreads();
    out[threadIdx.x] = __all_sync(full_warp, 1);
}

static void test_divergence()
{
    caught("a lane that ended before a shuffle",
           [] { must(LAUNCH(lone_shuffle, 1, 32, 0, 0, device<int>(32))); },
           {"kernel lone_shuffle: block (0,0,0), warp 0: lanes 0x00000020 never reached "
            "__shfl_xor_sync at "});
    caught("a shuffle that reads a lane outside its mask",
           [] { must(LAUNCH(outside_shuffle, 1, 32, 0, 0, device<int>(32))); },
           {"reads lane 9, which is not in the mask 0x000000ff"});
    caught("a lane that votes with a mask that it is not in",
           [] { must(LAUNCH(foreign_mask, 1, 32, 0, 0, device<int>(32))); },
           {"is not in its own mask 0x0000ffff"});
    caught("a barrier that half of the threads reach",
           [] { must(LAUNCH(half_barrier, 1, 64, 0, 0)); },
           {"32 of 64 threads never reached __syncthreads at "});
    caught("threads at two barriers", [] { must(LAUNCH(two_barriers, 1, 64, 0, 0)); },
           {" threads wait at "});
    caught("a vote while half of the lanes are at a barrier",
           [] { must(LAUNCH(warp_apart, 1, 32, 0, 0, device<int>(32))); },
           {"lanes 0xaaaaaaaa never reached __all_sync at "});
}

__global__ void write_at(int *out, int i)
{
    out[i] = 1;
}
__global__ void write_dynamic(int i)
{
    SHARED_DYNAMIC(int, box);
    box[i] = 1;
}
__global__ void write_static(int *out, int i)
{
    SHARED(int, box, [32]);
    box[i] = 1;
    *out = box[i];
}
__global__ void write_behind(int *out, int i)
{
    SHARED(int, box, [32]);
    int *plain = box;
    plain[i] = 1;
    *out = plain[i];
}
__global__ void too_much_shared(int *out)
{
    SHARED(char, box, [140 << 10]);
    *out = box[0];
}
__global__ void sum_vectors(float4 *out, const float *in)
{
    const float4 v = *reinterpret_cast<const float4 *>(in + 1);
    out->x = v.x + v.w;
}
__global__ void load_between(unsigned *out)
{
    SHARED(__nv_bfloat16, tile, [16][20]);
    unsigned r[2];
    ldmatrix(r, tile[threadIdx.x % 16]);
    out[threadIdx.x] = r[0];
}
__global__ void copy_between(const float *in)
{
    SHARED(float, box, [8]);
    cp_async<16>(box, in + 2);
}

static void test_memory()
{
    caught("a write past the end of an allocation",
           [] { must(LAUNCH(write_at, 1, 1, 0, 0, device<int>(33), 33)); },
           {"write_at: a write 0 bytes past the end of an allocation of 132 bytes",
            "use-after-poison"});
    caught("a write before an allocation",
           [] { must(LAUNCH(write_at, 1, 1, 0, 0, device<int>(33), -2)); },
           {"write_at: a write 8 bytes before an allocation", "use-after-poison"});
    caught("a write past the launch's shared memory",
           [] { must(LAUNCH(write_dynamic, 1, 1, 64, 0, 17)); },
           {"write_dynamic: block (0,0,0), a write 4 bytes past the end", "use-after-poison"});
    caught("an index past the end of a shared array",
           [] { must(LAUNCH(write_static, 1, 1, 0, 0, device<int>(1), 32)); },
           {"write_static: block (0,0,0), thread (0,0,0): a misaligned access, or an index past",
            "out of bounds", "use-after-poison"});
    caught("a write through a pointer past a shared array",
           [] { must(LAUNCH(write_behind, 1, 1, 0, 0, device<int>(1), 35)); },
           {"a write 12 bytes past the end of a variable in shared memory", "use-after-poison"});
    caught("more shared memory than the device has",
           [] {
               must(cudaFuncSetAttribute(too_much_shared,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, 30 << 10));
               must(LAUNCH(too_much_shared, 1, 1, 30 << 10, 0, device<int>(1)));
           },
           {"174080 bytes of shared memory, the device has 166912"});
#ifdef __clang__
    skip("a misaligned vector", "clang checks no copies of structs");
#else
    caught("a misaligned vector",
           [] { must(LAUNCH(sum_vectors, 1, 1, 0, 0, device<float4>(1), device<float>(9))); },
           {"a misaligned access", "misaligned address"});
#endif
    caught("a misaligned row of ldmatrix",
           [] { must(LAUNCH(load_between, 1, 32, 0, 0, device<unsigned>(32))); },
           {"misaligned: 16 bytes are needed"});
    caught("a misaligned cp.async",
           [] { must(LAUNCH(copy_between, 1, 1, 0, 0, device<float>(8))); },
           {"is misaligned for 16 bytes"});
    caught("a host pointer given to a kernel",
           [] {
               int here;
               must(LAUNCH(write_at, 1, 1, 0, 0, &here, 0));
           },
           {"kernel write_at: argument 1, "});
    if (sanitized)
        caught("the host reading the device's memory", [] { exit(device<int>(1)[0]); },
               {"use-after-poison"});
    else
        skip("the host reading the device's memory", "seen with SAN=address");

    float host[4];
    float *fresh = device<float>(4);
    must(cudaMemcpy(host, fresh, sizeof host, cudaMemcpyDeviceToHost));
    ok(isnan(host[0]) && isnan(host[3]), "new memory holds NaN");
    ok(cudaMemcpy(fresh, host, sizeof host + 1, cudaMemcpyHostToDevice) == cudaErrorInvalidValue &&
           cudaMemcpy(host, fresh, sizeof host, cudaMemcpyHostToDevice) == cudaErrorInvalidValue &&
           cudaMemset(host, 0, 4) == cudaErrorInvalidValue &&
           cudaFree(fresh + 1) == cudaErrorInvalidValue,
       "copies outside an allocation or the wrong way are refused");
    (void)cudaGetLastError();
    must(cudaFree(fresh));
}

__global__ void add(int *to, const int *from)
{
    to[threadIdx.x] += from[threadIdx.x];
}

// from = 1 on one stream, to += from on another; with or without an event between them.
static int chained(cudaStream_t first, cudaStream_t second, bool linked, int *to, int *from)
{
    cudaEvent_t event;
    must(cudaEventCreate(&event));
    must(cudaMemset(to, 0, 128));
    must(cudaMemset(from, 0, 128));
    must(cudaDeviceSynchronize());
    must(LAUNCH((turn_warp<true>), 1, 32, 0, first, from));
    must(cudaEventRecord(event, first));
    if (linked)
        must(cudaStreamWaitEvent(second, event));
    must(LAUNCH(add, 1, 32, 0, second, to, from));
    must(cudaStreamSynchronize(second));
    must(cudaEventDestroy(event));
    const int missed = wrong(to, 32, 1);
    must(cudaDeviceSynchronize());
    return missed;
}

// The same in a graph, launched 20 times.
static int replayed(cudaStream_t first, cudaStream_t second, bool linked, int *to, int *from)
{
    cudaEvent_t fork, ready, join;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    for (cudaEvent_t *event : {&fork, &ready, &join})
        must(cudaEventCreate(event));
    must(cudaMemset(to, 0, 128));
    must(cudaStreamBeginCapture(second, cudaStreamCaptureModeGlobal));
    must(cudaMemsetAsync(from, 0, 128, second));
    must(cudaEventRecord(fork, second));
    must(cudaStreamWaitEvent(first, fork));
    must(LAUNCH((turn_warp<true>), 1, 32, 0, first, from));
    must(cudaEventRecord(ready, first));
    if (linked)
        must(cudaStreamWaitEvent(second, ready));
    must(LAUNCH(add, 1, 32, 0, second, to, from));
    must(cudaEventRecord(join, first));
    must(cudaStreamWaitEvent(second, join));
    must(cudaStreamEndCapture(second, &graph));
    must(cudaGraphInstantiate(&exec, graph));
    for (int i = 0; i < 20; i++)
        must(cudaGraphLaunch(exec, second));
    must(cudaDeviceSynchronize());
    must(cudaGraphExecDestroy(exec));
    must(cudaGraphDestroy(graph));
    for (cudaEvent_t event : {fork, ready, join})
        must(cudaEventDestroy(event));
    return wrong(to, 32, 20);
}

static void test_streams()
{
    int *to = device<int>(32), *from = device<int>(32);
    cudaStream_t first, second;
    must(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    must(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    setenv("CUDASIM_STREAMS", "lazy", 1);
    ok(chained(first, second, true, to, from) == 0, "an event keeps two streams in order");
    ok(chained(first, second, false, to, from) == 32,
       "without an event two streams are out of order (lazy streams)");
    unsetenv("CUDASIM_STREAMS");
    ok(replayed(first, second, true, to, from) == 0, "an event keeps a graph's branches in order");
    ok(replayed(first, second, false, to, from) == 32,
       "without an event a graph's branches are out of order");

    cudaGraph_t graph = nullptr;
    must(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
    void *none;
    ok(cudaStreamSynchronize(first) == cudaErrorStreamCaptureUnsupported &&
           cudaMalloc(&none, 4) == cudaErrorStreamCaptureUnsupported &&
           cudaMemset(from, 0, 4) == cudaErrorStreamCaptureImplicit,
       "what a capture can't hold is refused");
    (void)cudaGetLastError();
    cudaEvent_t event;
    must(cudaEventCreate(&event));
    must(cudaEventRecord(event, first));
    must(cudaStreamWaitEvent(second, event));
    must(LAUNCH(add, 1, 32, 0, second, from, from));
    ok(cudaStreamEndCapture(first, &graph) == cudaErrorStreamCaptureUnjoined && !graph,
       "a capture must be joined by the streams that it forked to");
    (void)cudaGetLastError();
    must(cudaEventDestroy(event));
    must(cudaStreamDestroy(first));
    must(cudaStreamDestroy(second));
    must(cudaFree(to));
    must(cudaFree(from));
}

static void fault_at_second()
{
    setenv("CUDASIM_FAULT", "turn_warp:2", 1);
    int *x = device<int>(32);
    must(LAUNCH((turn_warp<true>), 1, 32, 0, 0, x));
    must(cudaDeviceSynchronize());
    (void)LAUNCH((turn_warp<true>), 1, 32, 0, 0, x);
    fprintf(stderr, "then ");
    must(cudaDeviceSynchronize());
}

static void test_errors()
{
    static int count;
    caught("no driver",
           [] {
               setenv("CUDASIM_NO_DRIVER", "1", 1);
               must(cudaGetDeviceCount(&count));
           },
           {"driver version is insufficient"});
    caught("no device",
           [] {
               setenv("CUDASIM_DEVICES", "0", 1);
               must(cudaGetDeviceCount(&count));
           },
           {"no CUDA-capable device"});
    caught("a device that is not there", [] { must(cudaSetDevice(1)); },
           {"invalid device ordinal"});
    caught("a device that is too old",
           [] {
               setenv("CUDASIM_ARCH", "75", 1);
               must(LAUNCH(half_barrier, 1, 32, 0, 0));
           },
           {"no kernel image"});
    caught("not enough memory",
           [] {
               setenv("CUDASIM_MEMORY", "4096", 1);
               device<char>(4000);
               void *more;
               must(cudaMalloc(&more, 100));
           },
           {"out of memory"});
    caught("a fault of a launch, seen later", fault_at_second,
           {"then an illegal memory access was encountered"});
}

int main()
{
    test_errors();
    test_races();
    test_divergence();
    test_memory();
    test_streams();
    return tap_done();
}
