// The device as environment variables describe it, errors, and launches.
// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>

#include "sim.h"

namespace cudasim
{
static cudaError_t last_error, device_fault;
static auto &most_dynamic =
    *new std::map<const void *, int>; // shared bytes that a kernel was allowed

call::call()
    : held([]() -> std::recursive_mutex & {
          static std::recursive_mutex mutex;
          return mutex;
      }())
{
}

uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);
    return value && *value ? strtoull(value, nullptr, 10) : otherwise;
}

static int arch()
{
    return static_cast<int>(setting("CUDASIM_ARCH", 80));
}

// What differs between architectures ("CUDA C++ Programming Guide", technical specifications per
// compute capability): the shared memory of a block, in KB (a multiprocessor has 1 KB more), and a
// multiprocessor's threads. An unknown one is like the last that is older.
static const struct architecture {
    int number, shared_kb, threads, multiprocessors;
} architectures[] = {{0, 95, 2048, 80},     {80, 163, 2048, 108}, {86, 99, 1536, 84},
                     {87, 163, 1536, 16},   {89, 99, 1536, 128},  {90, 227, 2048, 132},
                     {100, 227, 2048, 148}, {120, 99, 1536, 170}};

static const architecture &simulated()
{
    const architecture *found = architectures;
    for (const architecture &a : architectures)
        if (a.number <= arch())
            found = &a;
    return *found;
}

size_t shared_limit()
{
    return static_cast<size_t>(simulated().shared_kb) << 10;
}

static int device_count()
{
    return static_cast<int>(setting("CUDASIM_DEVICES", 1));
}

cudaError_t broken()
{
    if (setting("CUDASIM_NO_DRIVER", 0))
        return cudaErrorInsufficientDriver;
    if (device_count() == 0)
        return cudaErrorNoDevice;
    return device_fault;
}

cudaError_t result(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

cudaError_t allow_shared(const void *kernel, cudaFuncAttribute attribute, int value)
{
    const call c;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return result(broken());
    if (value < 0 || static_cast<size_t>(value) > shared_limit())
        return result(cudaErrorInvalidValue);
    most_dynamic[kernel] = value;
    return result(broken());
}

int resident_blocks(int threads, size_t shared)
{
    const size_t by_shared = (shared_limit() + 1024) / (shared + 1024);
    const size_t by_threads = simulated().threads / threads;
    return static_cast<int>(std::min<size_t>({by_threads, by_shared, 32}));
}

// Whether CUDASIM_FAULT, KERNEL or KERNEL:N, selects this run of a kernel: the Nth (by default the
// first) one whose name contains KERNEL.
static bool must_fault(const char *name)
{
    static uint64_t runs;
    const char *fault = getenv("CUDASIM_FAULT");
    if (!fault)
        return false;
    const char *colon = strchr(fault, ':');
    const std::string kernel(fault, colon ? colon - fault : strlen(fault));
    return strstr(name, kernel.c_str()) && ++runs == (colon ? strtoull(colon + 1, nullptr, 10) : 1);
}

// What a faulty kernel does: CUDASIM_FAULT_IS=hang or crash, else an illegal access of the GPU.
static void fault()
{
    const char *kind = getenv("CUDASIM_FAULT_IS");
    if (kind && strcmp(kind, "crash") == 0)
        abort();
    while (kind && strcmp(kind, "hang") == 0)
        pause();
    device_fault = cudaErrorIllegalAddress;
}

static cudaError_t launch_checked(const char *name, const void *kernel, dim3 grid, dim3 block,
                                  size_t shared, cudaStream_t stream, std::function<void()> body)
{
    if (arch() < 80)
        return cudaErrorNoKernelImageForDevice;
    const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    if (threads == 0 || threads > 1024 || block.z > 64 || blocks == 0 || grid.x > 0x7fffffff ||
        grid.y > 65535 || grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    const auto allowed = most_dynamic.find(kernel);
    if (shared > (allowed == most_dynamic.end() ? 48 << 10 : static_cast<size_t>(allowed->second)))
        return cudaErrorInvalidValue;
    return issue(stream, [=] {
        if (must_fault(name)) {
            fault();
            return;
        }
        memory_open();
        run_grid(name, grid, block, shared, body);
        memory_check(name);
        memory_close();
    });
}
cudaError_t launch_body(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                        cudaStream_t stream, std::function<void()> body)
{
    const call c;
    result(launch_checked(name, kernel, grid, block, shared, stream, std::move(body)));
    return cudaGetLastError();
}
} // namespace cudasim

using namespace cudasim;

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define ERROR(name, number, text) {name, #name, text},
    CUDASIM_ERRORS(ERROR)
#undef ERROR
};

const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.error == error)
            return e.text;
    return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.error == error)
            return e.name;
    return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError()
{
    const call c;
    return broken() ? broken() : last_error;
}

cudaError_t cudaGetLastError()
{
    const call c;
    const cudaError_t error = broken() ? broken() : last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = setting("CUDASIM_NO_DRIVER", 0) ? 0 : 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    const call c;
    *count = broken() ? 0 : device_count();
    return result(broken());
}

cudaError_t cudaSetDevice(int device)
{
    const call c;
    if (broken())
        return result(broken());
    return result(device >= 0 && device < device_count() ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    const call c;
    *device = 0;
    return result(broken());
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    const call c;
    if (broken())
        return result(broken());
    if (device < 0 || device >= device_count())
        return result(cudaErrorInvalidDevice);
    const int shared = static_cast<int>(shared_limit()), small = 48 << 10, cache = 40 << 20;
    const int many =
        static_cast<int>(setting("CUDASIM_MULTIPROCESSORS", simulated().multiprocessors));
    const int values[] = {
        1024,   many,          arch() / 10, arch() % 10,  small,
        shared, shared + 1024, cache,       cache / 4 * 3}; // as cudaDeviceAttr lists them
    *value = values[attribute];
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (setting("CUDASIM_NO_PROPERTIES", 0))
        return result(cudaErrorInvalidValue);
    cudaDeviceProp &p = *properties = {};
    if (const cudaError_t error =
            cudaDeviceGetAttribute(&p.multiProcessorCount, cudaDevAttrMultiProcessorCount, device))
        return error;
    snprintf(p.name, sizeof p.name, "simulated GPU");
    p.totalGlobalMem = setting("CUDASIM_MEMORY", 8ull << 30);
    p.sharedMemPerBlock = 48 << 10;
    p.sharedMemPerBlockOptin = shared_limit();
    p.sharedMemPerMultiprocessor = shared_limit() + 1024;
    p.major = arch() / 10;
    p.minor = arch() % 10;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsPerMultiProcessor = simulated().threads;
    p.regsPerBlock = 65536;
    p.warpSize = 32;
    p.l2CacheSize = 40 << 20;
    return cudaSuccess;
}
