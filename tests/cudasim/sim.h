// What the simulator's own sources share. SPDX-License-Identifier: MIT
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

// fiber.cc: stacks that control moves between.
struct fiber;
fiber *fiber_host();               // the stack of whoever calls from outside
fiber *fiber_take(void (*loop)()); // one that runs `loop`, which never returns
void fiber_give(fiber *f);         // for the next fiber_take
void fiber_switch(fiber *from, fiber *to);

// block.cc: the threads of a block.
extern unsigned current;      // the running thread's number in its block
extern uint64_t block_serial; // of the running block, from 1
extern bool in_kernel;
void run_grid(const char *name, dim3 grid, dim3 block, size_t shared,
              const std::function<void()> &body);
uint32_t random_below(uint32_t n); // of the seeded order

// warp.cc
void copies_forget(unsigned thread); // at a thread's start

// memory.cc
void shared_open(size_t dynamic_bytes); // at a block's start: poisons
void shared_check();                    // at its end: guard bands
bool is_shared(const void *at, size_t bytes);
void memory_open(); // the device's memory can be touched between these two; they nest
void memory_close();
void memory_check(const char *kernel); // guard bands of all allocations
bool is_device(const void *at, size_t bytes);
bool is_pinned(const void *at, size_t bytes);
cudaError_t memory_copy_check(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind);

// stream.cc
cudaError_t issue(cudaStream_t stream, std::function<void()> work);
bool capturing();
bool lazy(); // work is done when someone waits for it
void finish_all();

// host.cc: one call or kernel at a time.
struct call {
    std::lock_guard<std::recursive_mutex> held;
    call();
};
cudaError_t result(cudaError_t error);                  // remembers the error for cudaGetLastError
cudaError_t broken();                                   // no device, or a fault that has happened
uint64_t setting(const char *name, uint64_t otherwise); // of the environment
size_t shared_limit();
} // namespace cudasim

#endif
