// Runs the threads of a block: the scheduler, barriers, synchronization of a warp's lanes, and the
// report when no thread can run. SPDX-License-Identifier: MIT
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include <algorithm>
#include <numeric>

#include "sim.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cudasim
{
constexpr unsigned max_threads = 1024, barriers = 16;

struct alignas(64) thread { // a cache line
    fiber *on;              // NULL before it starts
    uint3 index;
    bool ended;
    const char *waits_at; // "__syncthreads", "ldmatrix", ...; NULL if it doesn't wait
    source_location at;
    int barrier;   // number of the barrier; -1 if it waits for lanes of its warp
    unsigned mask; // the lanes that it waits for
    void *arg;
};
struct warp {
    unsigned lanes, ready,
        waiting; // masks: all lanes; those that can run; those that wait for other lanes
};
static struct {
    unsigned arrived, expected;
    source_location at;
} barrier_states[barriers];

static thread threads[max_threads];
static warp warps[max_threads / 32];
static unsigned thread_count, alive, running_warp;
static const char *kernel_name;
static const std::function<void()> *kernel_body;
static fiber *host_fiber;
unsigned current;
uint64_t block_serial;
bool in_kernel;

// A xorshift64* generator.
static uint64_t random_state = setting("CUDASIM_SEED", 1) * 0x9e3779b97f4a7c15 + 1;
static uint32_t random_bits()
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return static_cast<uint32_t>(random_state * 0x2545f4914f6cdd1d >> 32);
}
uint32_t random_below(uint32_t n)
{
    return static_cast<uint32_t>(static_cast<uint64_t>(random_bits()) * n >> 32);
}

static void say_place()
{
    fprintf(stderr, "cudasim: kernel %s: block (%u,%u,%u), ", kernel_name, blockIdx.x, blockIdx.y,
            blockIdx.z);
}

void fault(const char *format, ...)
{
    if (in_kernel)
        say_place();
    else
        fprintf(stderr, "cudasim: ");
    if (in_kernel && alive)
        fprintf(stderr, "thread (%u,%u,%u): ", threadIdx.x, threadIdx.y, threadIdx.z);
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

unsigned lane()
{
    return current % 32;
}

static void say_state(unsigned t)
{
    if (t >= thread_count)
        fprintf(stderr, "thread %u is not in the block", t);
    else if (threads[t].ended)
        fprintf(stderr, "thread %u has ended", t);
    else
        fprintf(stderr, "thread %u waits at %s, %s:%d", t, threads[t].waits_at, threads[t].at.file,
                threads[t].at.line);
}

static bool same_wait(const thread &a, const thread &b)
{
    return a.waits_at == b.waits_at && a.barrier == b.barrier && a.mask == b.mask &&
           a.at.line == b.at.line && a.at.file == b.at.file;
}

// Reports a deadlock: the lanes of a warp, or the threads at a barrier, that the others wait for.
[[noreturn]] static void report_stuck()
{
    for (unsigned w = 0; w * 32 < thread_count; w++) {
        if (!warps[w].waiting)
            continue;
        const thread &first = threads[w * 32 + __builtin_ctz(warps[w].waiting)];
        unsigned missing = first.mask;
        for (unsigned i = 0; i < 32 && w * 32 + i < thread_count; i++)
            if ((warps[w].waiting >> i & 1) && same_wait(first, threads[w * 32 + i]))
                missing &= ~(1u << i);
        say_place();
        fprintf(stderr, "warp %u: lanes 0x%08x never reached %s at %s:%d (mask 0x%08x); ", w,
                missing, first.waits_at, first.at.file, first.at.line, first.mask);
        say_state(w * 32 + __builtin_ctz(missing));
        fputc('\n', stderr);
        abort();
    }
    for (unsigned t = 0; t < thread_count; t++) {
        const thread &waiting = threads[t];
        if (waiting.ended)
            continue;
        const auto &b = barrier_states[waiting.barrier];
        say_place();
        fprintf(stderr, "%u of %u threads never reached %s at %s:%d", b.expected - b.arrived,
                b.expected, waiting.waits_at, waiting.at.file, waiting.at.line);
        for (unsigned other = 0; other < thread_count; other++)
            if (threads[other].ended || threads[other].barrier != waiting.barrier) {
                fprintf(stderr, "; ");
                say_state(other);
                break;
            }
        fputc('\n', stderr);
        abort();
    }
    abort();
}

// Picks a ready thread at random, from the running warp if it has one, else from another warp.
static unsigned pick()
{
    const unsigned count = (thread_count + 31) / 32;
    if (!warps[running_warp].ready) {
        unsigned w = random_below(count), tried = 0;
        while (!warps[w].ready && ++tried <= count)
            w = w + 1 < count ? w + 1 : 0;
        if (!warps[w].ready)
            report_stuck();
        running_warp = w;
    }
    warp &w = warps[running_warp];
    // The first ready lane from a random one on.
    const unsigned start = random_bits() & 31;
    const unsigned i = (__builtin_ctz(w.ready >> start | w.ready << (-start & 31)) + start) & 31;
    w.ready &= ~(1u << i);
    return running_warp * 32 + i;
}

static void become(unsigned t)
{
    current = t;
    threadIdx = threads[t].index;
}

// The loop of a fiber: runs one thread after another, each from its beginning to its end.
static void run_threads()
{
    fiber *self = threads[current].on;
    for (;;) {
        copies_forget(current);
        (*kernel_body)();
        threads[current].ended = true;
        fiber *next = host_fiber;
        if (--alive) {
            const unsigned t = pick();
            become(t);
            if (!threads[t].on) {
                threads[t].on = self;
                continue;
            }
            next = threads[t].on;
        }
        fiber_give(self);
        fiber_switch(self, next);
    }
}

// Runs other threads until this one is ready and picked.
static void wait()
{
    const unsigned self = current, t = pick();
    if (t == self)
        return;
    become(t);
    if (!threads[t].on)
        threads[t].on = fiber_take(run_threads);
    fiber_switch(threads[self].on, threads[t].on);
}

static void begin_wait(const char *what, source_location at, int number, unsigned mask, void *arg)
{
    thread &me = threads[current];
    me.waits_at = what;
    me.at = at;
    me.barrier = number;
    me.mask = mask;
    me.arg = arg;
}

void barrier(int number, unsigned count, const char *what, source_location at)
{
    if (number < 0 || number >= static_cast<int>(barriers) || count % 32 || count > thread_count ||
        (number == 0) != (count == 0))
        fault("%s %d of %u threads at %s:%d: numbers are 1-15, threads whole warps of the block",
              what, number, count, at.file, at.line);
    auto &b = barrier_states[number];
    if (count == 0)
        count = thread_count;
    if (b.arrived == 0) {
        b.expected = count;
        b.at = at;
    } else if (b.expected != count ||
               (number == 0 && (b.at.line != at.line || b.at.file != at.file))) {
        fault("%s at %s:%d, while %u threads wait at %s:%d", what, at.file, at.line, b.arrived,
              b.at.file, b.at.line);
    }
    begin_wait(what, at, number, 0, nullptr);
    if (++b.arrived == b.expected) {
        b.arrived = 0;
        if (count == thread_count) {
            for (unsigned w = 0; w * 32 < thread_count; w++)
                warps[w].ready = warps[w].lanes;
        } else {
            for (unsigned t = 0; t < thread_count; t++)
                if (!threads[t].ended && threads[t].waits_at && threads[t].barrier == number)
                    warps[t / 32].ready |= 1u << t % 32;
        }
        running_warp = random_below((thread_count + 31) / 32);
    }
    wait();
    threads[current].waits_at = nullptr;
}

void sync_lanes(const char *what, unsigned mask, source_location at, void *arg, perform_fn *perform)
{
    const unsigned first = current & ~31u, me = 1u << lane();
    warp &w = warps[current / 32];
    if (!(mask & me))
        fault("%s at %s:%d: lane %u is not in its own mask 0x%08x", what, at.file, at.line, lane(),
              mask);
    begin_wait(what, at, -1, mask, arg);
    w.waiting |= me;
    bool all = (w.waiting & mask) == mask;
    for (unsigned left = all ? mask : 0; left && all; left &= left - 1)
        all = same_wait(threads[first + __builtin_ctz(left)], threads[current]);
    if (!all) {
        wait();
        return;
    }
    if (perform) {
        void *args[32] = {};
        for (unsigned left = mask; left; left &= left - 1)
            args[__builtin_ctz(left)] = threads[first + __builtin_ctz(left)].arg;
        perform(args, mask);
    }
    w.waiting &= ~mask;
    w.ready |= mask & ~me;
    for (unsigned left = mask; left; left &= left - 1)
        threads[first + __builtin_ctz(left)].waits_at = nullptr;
}

static void run_block(size_t shared)
{
    block_serial++;
    shared_open(shared);
    for (unsigned w = 0; w * 32 < thread_count; w++) {
        const unsigned left = thread_count - w * 32;
        warps[w].lanes = warps[w].ready = left < 32 ? (1u << left) - 1 : ~0u;
        warps[w].waiting = 0;
    }
    for (unsigned t = 0; t < thread_count; t++) {
        threads[t].on = nullptr;
        threads[t].ended = false;
        threads[t].waits_at = nullptr;
    }
    for (auto &b : barrier_states)
        b.arrived = 0;
    alive = thread_count;
    running_warp = random_below((thread_count + 31) / 32);
    become(pick());
    threads[current].on = fiber_take(run_threads);
    fiber_switch(host_fiber, threads[current].on);
    shared_check();
}

#ifndef __SANITIZE_ADDRESS__
// The kernels are compiled with checks that trap (Makefile), by SIGTRAP on arm64.
static void say_signal(int number)
{
    signal(number, SIG_DFL);
    if (in_kernel)
        fault(number == SIGILL || number == SIGTRAP
                  ? "a misaligned access, or an index past the end of an array "
                    "(SAN=undefined says where)"
                  : "a bad address (SAN=address says where)");
    raise(number);
}
static void catch_signals()
{
    static thread_local bool caught;
    if (caught)
        return;
    caught = true;
    static thread_local char stack[32 << 10];
    stack_t other = {};
    other.ss_sp = stack;
    other.ss_size = sizeof stack;
    sigaltstack(&other, nullptr);
    struct sigaction action = {};
    action.sa_handler = say_signal;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    for (int number : {SIGILL, SIGTRAP, SIGSEGV, SIGBUS})
        sigaction(number, &action, nullptr);
}
#else
static void catch_signals()
{
}
#endif

void run_grid(const char *name, dim3 grid, dim3 block, size_t shared,
              const std::function<void()> &body)
{
    catch_signals();
    kernel_name = name;
    kernel_body = &body;
    gridDim = grid;
    blockDim = block;
    thread_count = block.x * block.y * block.z;
    for (unsigned t = 0; t < thread_count; t++)
        threads[t].index = {t % block.x, t / block.x % block.y, t / block.x / block.y};
    host_fiber = fiber_host();
    in_kernel = true;
    // Blocks run in a random order, too: every stride-th one, cyclically, from a random start.
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    uint64_t stride = 1 + random_bits() % blocks, b = random_bits() % blocks;
    while (std::gcd(stride, blocks) != 1)
        stride++;
    for (uint64_t i = 0; i < blocks; i++, b = (b + stride) % blocks) {
        blockIdx.x = b % grid.x;
        blockIdx.y = b / grid.x % grid.y;
        blockIdx.z = b / grid.x / grid.y;
        run_block(shared);
    }
    in_kernel = false;
}
} // namespace cudasim
