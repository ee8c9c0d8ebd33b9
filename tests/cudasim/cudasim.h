// The simulator's side of kernels/cuda/cuda.h, which describes these functions: launches, shared
// memory, ldmatrix, mma and cp.async. SPDX-License-Identifier: MIT
#ifndef CUDASIM_H
#define CUDASIM_H

#include <functional>
#include <tuple>

#define LAUNCH(kernel, grid, block, shared, stream, ...) \
    cudasim::launch(#kernel, kernel, grid, block, shared, stream, ##__VA_ARGS__)
#define NOINLINE __attribute__((noinline))
#define SHARED(type, name, ...)                   \
    using name##_type = type __VA_ARGS__;         \
    static cudasim::shared_variable name##_place; \
    name##_type &name = *static_cast<name##_type *>(name##_place.get(sizeof(name##_type)))
#define SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(cudasim::dynamic_shared())

namespace cudasim
{
// The address of a SHARED variable in this block. The first thread that reaches the variable
// allocates it.
struct shared_variable {
    uint64_t block = 0;
    void *at = nullptr;
    void *get(size_t bytes);
};
void *dynamic_shared();

// The argument's number is its place in the kernel's parameters, from 1.
void check_pointer(const char *kernel, int number, const void *pointer);
cudaError_t launch_body(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                        cudaStream_t stream, std::function<void()> body);

template <class T> void check_argument(const char *kernel, int &number, const T &value)
{
    ++number;
    if constexpr (std::is_pointer_v<T>)
        check_pointer(kernel, number, reinterpret_cast<const void *>(value));
}

template <class... P, class... A>
[[nodiscard]] cudaError_t launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                 size_t shared, cudaStream_t stream, A &&...args)
{
    static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
    std::tuple<std::decay_t<P>...> values(static_cast<std::decay_t<P>>(args)...);
    int number = 0;
    std::apply([&](auto &...value) { (check_argument(name, number, value), ...); }, values);
    return launch_body(name, reinterpret_cast<const void *>(kernel), grid, block, shared, stream,
                       [kernel, values] { std::apply(kernel, values); });
}

void load_matrices(unsigned *r, int n, bool transposed, const void *row, source_location at);
void multiply_bf16(float *d, const unsigned *a, unsigned b0, unsigned b1, source_location at);
void multiply_tf32(float *d, const unsigned *a, unsigned b0, unsigned b1, source_location at);
void copy_start(void *to_shared, const void *from, int bytes, int valid, source_location at);
void copy_commit();
void copy_wait(int groups);
} // namespace cudasim

template <int N>
void ldmatrix(unsigned (&r)[N], const void *row,
              cudasim::source_location at = cudasim::source_location::here())
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
    cudasim::load_matrices(r, N, false, row, at);
}
template <int N>
void ldmatrix_trans(unsigned (&r)[N], const void *row,
                    cudasim::source_location at = cudasim::source_location::here())
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
    cudasim::load_matrices(r, N, true, row, at);
}
static inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                            cudasim::source_location at = cudasim::source_location::here())
{
    cudasim::multiply_bf16(d, a, b0, b1, at);
}
static inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                            cudasim::source_location at = cudasim::source_location::here())
{
    cudasim::multiply_tf32(d, a, b0, b1, at);
}
static inline unsigned to_tf32(float x)
{
    const unsigned bits = __float_as_uint(x);
    return x - x == 0 ? (bits + 0x1000) & ~0x1fffu : bits; // infinities and NaN stay
}

template <int BYTES>
void cp_async(void *to_shared, const void *from, int valid = BYTES,
              cudasim::source_location at = cudasim::source_location::here())
{
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    cudasim::copy_start(to_shared, from, BYTES, valid, at);
}
static inline void cp_async_commit()
{
    cudasim::copy_commit();
}
template <int N> void cp_async_wait()
{
    cudasim::copy_wait(N);
}

static inline void named_barrier(int number, int threads,
                                 cudasim::source_location at = cudasim::source_location::here())
{
    cudasim::barrier(number, threads, "named_barrier", at);
}
static inline float exp2_approx(float x)
{
    return exp2f(x);
}
static inline float tanh_approx(float x)
{
    return tanhf(x);
}

#endif
