// Device memory and the shared memory of a block. SPDX-License-Identifier: MIT
//
// Both are poisoned when new and guarded at both ends. AddressSanitizer reports any access to the
// guards, and accesses of the host to device memory.
#include <stdlib.h>

#include <map>
#include <vector>

#include "sim.h"

namespace cudasim
{
constexpr size_t guard_bytes = 256;
constexpr int guard = 0xa5;

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static void guard_set(unsigned char *at, size_t bytes)
{
    memset(at, guard, bytes);
    ASAN_POISON_MEMORY_REGION(at, bytes);
}

// The index of the first changed byte, or `bytes`. AddressSanitizer reports a change before this is
// called.
static size_t guard_changed(const unsigned char *at, size_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
    (void)at;
    return bytes;
#else
    size_t i = 0;
    while (i < bytes && at[i] == guard)
        i++;
    return i;
#endif
}

// Shared memory: the dynamic bytes, then the SHARED variables in the order of their first use.
static struct {
    alignas(1024) unsigned char bytes[512 << 10];
    unsigned char *end; // of the last variable
    size_t taken;
    std::vector<unsigned char *> guards; // each of guard_bytes
} shared;

static void *shared_take(unsigned char *at, size_t bytes)
{
    shared.taken += round_up(bytes, 16);
    if (shared.taken > shared_limit() ||
        at + bytes + guard_bytes > shared.bytes + sizeof shared.bytes)
        fault("%zu bytes of shared memory, the device has %zu", shared.taken, shared_limit());
    ASAN_UNPOISON_MEMORY_REGION(at, bytes + guard_bytes);
    memset(at, poison, bytes);
    shared.end = at + bytes;
    guard_set(shared.end, guard_bytes);
    shared.guards.push_back(shared.end);
    return at;
}

static unsigned char *shared_begin()
{
    return shared.bytes + 1024 + 128; // aligned to 128 bytes, but not to 256
}

void shared_open(size_t dynamic_bytes)
{
    ASAN_UNPOISON_MEMORY_REGION(shared.bytes, sizeof shared.bytes);
    guard_set(shared_begin() - guard_bytes, guard_bytes);
    ASAN_POISON_MEMORY_REGION(shared.bytes, sizeof shared.bytes);
    shared.guards.assign(1, shared_begin() - guard_bytes);
    shared.taken = 0;
    shared_take(shared_begin(), dynamic_bytes);
}

void shared_check()
{
    for (const unsigned char *zone : shared.guards) {
        const size_t at = guard_changed(zone, guard_bytes);
        if (at < guard_bytes && zone < shared_begin())
            fault("a write %zu bytes before shared memory", guard_bytes - at);
        if (at < guard_bytes)
            fault("a write %zu bytes past the end of a variable in shared memory", at);
    }
}

bool is_shared(const void *at, size_t bytes)
{
    const unsigned char *p = static_cast<const unsigned char *>(at);
    return p >= shared_begin() && p + bytes <= shared.end;
}

void *dynamic_shared()
{
    return shared_begin();
}

void *shared_variable::get(size_t bytes)
{
    if (block != block_serial) {
        block = block_serial;
        const size_t past = round_up(shared.end + guard_bytes - shared.bytes, 32);
        at = shared_take(shared.bytes + past + 16, bytes); // aligned to 16 bytes, but not to 32
    }
    return at;
}

// Device memory. These maps are never destroyed, as a program may call cudaFree in its last
// destructors.
static auto &allocations = *new std::map<uintptr_t, size_t>,
            &pinned = *new std::map<uintptr_t, size_t>;
static size_t allocated;
static int opened;

static unsigned char *bytes_at(uintptr_t address)
{
    return reinterpret_cast<unsigned char *>(address);
}

static bool within(const std::map<uintptr_t, size_t> &blocks, const void *at, size_t bytes)
{
    const uintptr_t address = reinterpret_cast<uintptr_t>(at);
    auto after = blocks.upper_bound(address);
    if (after == blocks.begin())
        return false;
    const auto &[start, size] = *--after;
    return address - start <= size && bytes <= size - (address - start);
}

bool is_device(const void *at, size_t bytes)
{
    return within(allocations, at, bytes);
}

bool is_pinned(const void *at, size_t bytes)
{
    return within(pinned, at, bytes);
}

void memory_open()
{
    if (opened++ == 0)
        for (const auto &[at, bytes] : allocations)
            ASAN_UNPOISON_MEMORY_REGION(bytes_at(at), bytes);
}

void memory_close()
{
    if (--opened == 0)
        for (const auto &[at, bytes] : allocations)
            ASAN_POISON_MEMORY_REGION(bytes_at(at), bytes);
}

void memory_check(const char *kernel)
{
    for (const auto &[at, bytes] : allocations) {
        const size_t before = guard_changed(bytes_at(at) - guard_bytes, guard_bytes);
        const size_t after = guard_changed(bytes_at(at) + bytes, guard_bytes);
        if (before < guard_bytes)
            fault("kernel %s: a write %zu bytes before an allocation of %zu bytes", kernel,
                  guard_bytes - before, bytes);
        if (after < guard_bytes)
            fault("kernel %s: a write %zu bytes past the end of an allocation of %zu bytes", kernel,
                  after, bytes);
    }
}

void check_pointer(const char *kernel, int number, const void *pointer)
{
    const call c;
    if (pointer && !is_device(pointer, 0) && !is_pinned(pointer, 0))
        fault("kernel %s: argument %d, %p, is no pointer to the device's memory", kernel, number,
              pointer);
}

cudaError_t memory_copy_check(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    const bool to_device = is_device(to, 0), from_device = is_device(from, 0);
    if (kind != cudaMemcpyDefault &&
        (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
         from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
        return cudaErrorInvalidValue;
    if ((to_device && !is_device(to, bytes)) || (from_device && !is_device(from, bytes)))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}
} // namespace cudasim

using namespace cudasim;

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    const call c;
    *memory = nullptr;
    if (broken() || capturing())
        return result(broken() ? broken() : cudaErrorStreamCaptureUnsupported);
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > setting("CUDASIM_MEMORY", 8ull << 30) - allocated ||
        bytes == setting("CUDASIM_NO_ALLOCATION", 0))
        return result(cudaErrorMemoryAllocation);
    unsigned char *base = static_cast<unsigned char *>(
        aligned_alloc(256, guard_bytes + round_up(bytes, 256) + guard_bytes));
    if (!base)
        return result(cudaErrorMemoryAllocation);
    memset(base + guard_bytes, poison, bytes);
    guard_set(base, guard_bytes);
    guard_set(base + guard_bytes + bytes, guard_bytes);
    ASAN_POISON_MEMORY_REGION(base + guard_bytes, bytes);
    allocations[reinterpret_cast<uintptr_t>(base + guard_bytes)] = bytes;
    allocated += bytes;
    *memory = base + guard_bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    const call c;
    if (!memory)
        return result(broken());
    if (capturing())
        return result(cudaErrorStreamCaptureUnsupported);
    const auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
    if (found == allocations.end())
        return result(cudaErrorInvalidValue);
    finish_all();
    unsigned char *base = static_cast<unsigned char *>(memory) - guard_bytes;
    ASAN_UNPOISON_MEMORY_REGION(base, guard_bytes + found->second + guard_bytes);
    memset(memory, poison, found->second);
    allocated -= found->second;
    allocations.erase(found);
    free(base);
    return result(broken());
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    const call c;
    *total = setting("CUDASIM_MEMORY", 8ull << 30);
    *available = *total - allocated;
    return result(broken());
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
    const call c;
    *memory = broken() ? nullptr : malloc(bytes);
    if (!*memory)
        return result(broken() ? broken() : cudaErrorMemoryAllocation);
    pinned[reinterpret_cast<uintptr_t>(*memory)] = bytes;
    memset(*memory, poison, bytes);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    return cudaHostAlloc(memory, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *memory)
{
    const call c;
    if (memory && !pinned.count(reinterpret_cast<uintptr_t>(memory)))
        return result(cudaErrorInvalidValue);
    finish_all();
    pinned.erase(reinterpret_cast<uintptr_t>(memory));
    free(memory);
    return result(broken());
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned)
{
    const call c;
    if (is_pinned(memory, 0))
        return result(cudaErrorHostMemoryAlreadyRegistered);
    pinned[reinterpret_cast<uintptr_t>(memory)] = bytes;
    return result(broken());
}

cudaError_t cudaHostUnregister(void *memory)
{
    const call c;
    finish_all();
    if (!pinned.erase(reinterpret_cast<uintptr_t>(memory)))
        return result(cudaErrorHostMemoryNotRegistered);
    return result(broken());
}
