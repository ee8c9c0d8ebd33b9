// The functions and variables of device code: thread indices, barriers, shuffles and votes,
// atomics, loads.
// SPDX-License-Identifier: MIT
#ifndef CUDASIM_DEVICE_H
#define CUDASIM_DEVICE_H

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cudasim
{
// A line of a kernel's source, for messages.
struct source_location {
    const char *file;
    int line;
    static source_location here(const char *file = __builtin_FILE(), int line = __builtin_LINE())
    {
        return {file, line};
    }
};

// Waits until `threads` threads (0: all of the block) have called this with the same number.
void barrier(int number, unsigned threads, const char *what, source_location at);

// Waits until all lanes of `mask` have called this with the same `what`, mask and location. The
// last one calls perform with the lanes' arguments (NULL for lanes outside the mask).
using perform_fn = void(void *const args[32], unsigned mask);
void sync_lanes(const char *what, unsigned mask, source_location at, void *arg,
                perform_fn *perform);

[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

// exchange returns the value that lane `from` passed; ballot the votes of the mask's lanes, a bit
// each.
uint64_t exchange(const char *what, unsigned mask, unsigned from, uint64_t value,
                  source_location at);
unsigned ballot(const char *what, unsigned mask, bool predicate, source_location at);
unsigned lane();

template <class T>
T exchange_value(const char *what, unsigned mask, unsigned from, T value, source_location at)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = exchange(what, mask, from, bits, at);
    memcpy(&value, &bits, sizeof value);
    return value;
}
} // namespace cudasim

static inline void __syncthreads(cudasim::source_location at = cudasim::source_location::here())
{
    cudasim::barrier(0, 0, "__syncthreads", at);
}
static inline void __syncwarp(unsigned mask = ~0u,
                              cudasim::source_location at = cudasim::source_location::here())
{
    cudasim::sync_lanes("__syncwarp", mask, at, nullptr, nullptr);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32,
              cudasim::source_location at = cudasim::source_location::here())
{
    const unsigned me = cudasim::lane(), w = width;
    return cudasim::exchange_value("__shfl_sync", mask, (me & -w) | (from & (w - 1)), value, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32,
                  cudasim::source_location at = cudasim::source_location::here())
{
    const unsigned me = cudasim::lane(), w = width, from = me ^ flip;
    return cudasim::exchange_value("__shfl_xor_sync", mask, from < (me & -w) + w ? from : me, value,
                                   at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   cudasim::source_location at = cudasim::source_location::here())
{
    const unsigned me = cudasim::lane(), w = width;
    const bool inside = (me & (w - 1)) + delta < w;
    return cudasim::exchange_value("__shfl_down_sync", mask, inside ? me + delta : me, value, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 cudasim::source_location at = cudasim::source_location::here())
{
    const unsigned me = cudasim::lane(), w = width;
    const bool inside = (me & (w - 1)) >= delta;
    return cudasim::exchange_value("__shfl_up_sync", mask, inside ? me - delta : me, value, at);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate,
                                     cudasim::source_location at = cudasim::source_location::here())
{
    return cudasim::ballot("__ballot_sync", mask, predicate, at);
}
static inline int __any_sync(unsigned mask, int predicate,
                             cudasim::source_location at = cudasim::source_location::here())
{
    return cudasim::ballot("__any_sync", mask, predicate, at) != 0;
}
static inline int __all_sync(unsigned mask, int predicate,
                             cudasim::source_location at = cudasim::source_location::here())
{
    return cudasim::ballot("__all_sync", mask, predicate, at) == mask;
}

// Threads run one at a time, so plain reads and writes are atomic.
#define CUDASIM_ATOMIC(name, value)                                 \
    template <class T> T name(T *at, std::common_type_t<T> operand) \
    {                                                               \
        const T old = *at;                                          \
        *at = value;                                                \
        return old;                                                 \
    }
CUDASIM_ATOMIC(atomicAdd, old + operand)
CUDASIM_ATOMIC(atomicSub, old - operand)
CUDASIM_ATOMIC(atomicMax, old < operand ? operand : old)
CUDASIM_ATOMIC(atomicMin, operand < old ? operand : old)
CUDASIM_ATOMIC(atomicExch, operand)
CUDASIM_ATOMIC(atomicOr, old | operand)
CUDASIM_ATOMIC(atomicAnd, old &operand)
#undef CUDASIM_ATOMIC
// Wraps to 0 after `last`.
static inline unsigned atomicInc(unsigned *at, unsigned last)
{
    const unsigned old = *at;
    *at = old >= last ? 0 : old + 1;
    return old;
}
template <class T> T atomicCAS(T *at, std::common_type_t<T> expected, std::common_type_t<T> value)
{
    const T old = *at;
    if (old == expected)
        *at = value;
    return old;
}
static inline void __threadfence()
{
}
static inline void __threadfence_block()
{
}

#define CUDASIM_LOAD(name)                   \
    template <class T> T name(const T *from) \
    {                                        \
        return *from;                        \
    }
CUDASIM_LOAD(__ldg)
CUDASIM_LOAD(__ldcs)
CUDASIM_LOAD(__ldcg)
#undef CUDASIM_LOAD
#define CUDASIM_STORE(name)                                          \
    template <class T> void name(T *to, std::common_type_t<T> value) \
    {                                                                \
        *to = value;                                                 \
    }
CUDASIM_STORE(__stcs)
CUDASIM_STORE(__stcg)
#undef CUDASIM_STORE

#endif
