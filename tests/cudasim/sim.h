// The interfaces between the simulator's own sources. SPDX-License-Identifier: MIT
#ifndef CUDASIM_SIM_H
#define CUDASIM_SIM_H

#include <cuda_runtime.h>

#include <functional>
#include <mutex>

#include <cudasim.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace cudasim
{
constexpr int poison = 0xff; // bytes of new memory: NaN as float32 and bf16, -1 as an integer

// fiber.cc: threads of execution with stacks of their own, between which control is switched.
struct fiber;
fiber *fiber_host();               // the stack of the host's thread
fiber *fiber_take(void (*loop)()); // a fiber that runs `loop`, which never returns
void fiber_give(fiber *f);         // returns it for the next fiber_take
void fiber_switch(fiber *from, fiber *to);

// block.cc: the threads of a block.
extern unsigned current;      // number of the running thread in its block
extern uint64_t block_serial; // number of the running block, from 1
extern bool in_kernel;
void run_grid(const char *name, dim3 grid, dim3 block, size_t shared,
              const std::function<void()> &body);
uint32_t random_below(uint32_t n); // from the generator that CUDASIM_SEED seeds

// warp.cc
void copies_forget(unsigned thread); // called when a thread starts

// memory.cc
void shared_open(size_t dynamic_bytes); // poisons shared memory when a block starts
void shared_check();                    // checks its guard bands when the block ends
bool is_shared(const void *at, size_t bytes);
void memory_open(); // device memory may only be accessed between these two, which nest
void memory_close();
void memory_check(const char *kernel); // checks the guard bands of all allocations
bool is_device(const void *at, size_t bytes);
bool is_pinned(const void *at, size_t bytes);
cudaError_t memory_copy_check(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind);

// stream.cc
cudaError_t issue(cudaStream_t stream, std::function<void()> work);
bool capturing();
bool lazy(); // CUDASIM_STREAMS=lazy: work is done when a call waits for it
void finish_all();

// host.cc. A call is a lock: only one call or kernel runs at a time.
struct call {
    std::lock_guard<std::recursive_mutex> held;
    call();
};
cudaError_t result(cudaError_t error); // keeps the error for cudaGetLastError
cudaError_t broken();                  // the error of all calls: no device, or a fault
uint64_t setting(const char *name, uint64_t otherwise); // an environment variable
size_t shared_limit();
} // namespace cudasim

#endif
