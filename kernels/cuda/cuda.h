// Lets nvcc and the CUDA simulator compile the same sources. SPDX-License-Identifier: MIT
//
// The same .cu files are compiled by nvcc, and with -DCUDASIM by g++ against the simulator's
// headers of the same names (tests/cudasim/README.md). This header wraps what the two spell
// differently and what CUDA C++ has no function for; everything else is plain CUDA C++17. The
// simulator defines the subset that the plug-in uses, and nothing else compiles with it.
//
//   LAUNCH(kernel, grid, block, shared, stream, args...)   returns a cudaError_t to check.
//       Put a template in parentheses: LAUNCH((scale<4>), grid, 256, 0, stream, x, n).
//   SHARED(type, name, dims)        static shared memory, 16-byte aligned, uninitialised:
//       SHARED(float, tile, [8][32]); SHARED(int, total, );
//   SHARED_DYNAMIC(type, name)      type *name: the launch's `shared` bytes, 128-byte aligned.
//   NOINLINE                        of a function: __noinline__, which system headers use as a word
//       of their own, so that the simulator can't define it.
//
// All 32 lanes call warp-wide functions (ldmatrix, mma) together. Fragments have the layout of the
// PTX ISA. With g = lane / 4 and t = lane % 4, and the lower column (of A) or row (of B) of two
// bf16 in the low half of a register:
//   m16n8k16 bf16   A (16,16): a[0] row g, columns 2t, 2t+1; a[1] row g+8; a[2], a[3] columns + 8
//                   B (16,8):  b0 rows 2t, 2t+1, column g; b1 rows + 8
//   m16n8k8 tf32    A (16,8):  a[0] row g, column t; a[1] row g+8; a[2], a[3] columns + 4
//                   B (8,8):   b0 row t, column g; b1 row t+4
//   both            D (16,8):  d[0], d[1] row g, columns 2t, 2t+1; d[2], d[3] row g+8
#ifndef DIT_CUDA_H
#define DIT_CUDA_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#ifdef CUDASIM
#include <cudasim.h>
#else

#define NOINLINE __noinline__
#define LAUNCH(kernel, grid, block, shared, stream, ...) \
    (kernel<<<grid, block, shared, stream>>>(__VA_ARGS__), cudaGetLastError())
#define SHARED(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
#define SHARED_DYNAMIC(type, name)                                   \
    extern __shared__ __align__(128) unsigned char dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(dynamic_shared)

static __device__ __forceinline__ unsigned shared_address(const void *shared)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

// Loads N 8x8 matrices of 16-bit elements from shared memory; N is 1, 2 or 4. Lane 8 m + i passes
// the address of row i of matrix m, 16 bytes, 16-byte aligned; lanes from 8 N on may pass any
// address. r[m] receives row g, columns 2t and 2t+1 of matrix m.
template <int N> static __device__ __forceinline__ void ldmatrix(unsigned (&r)[N], const void *row)
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
    if constexpr (N == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                     : "=r"(r[0])
                     : "r"(shared_address(row))
                     : "memory");
    else if constexpr (N == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(shared_address(row))
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row))
                     : "memory");
}

// The same with each matrix transposed: r[m] receives rows 2t and 2t+1, column g.
template <int N>
static __device__ __forceinline__ void ldmatrix_trans(unsigned (&r)[N], const void *row)
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
    if constexpr (N == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                     : "=r"(r[0])
                     : "r"(shared_address(row))
                     : "memory");
    else if constexpr (N == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(shared_address(row))
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row))
                     : "memory");
}

// d += A B, with A and B in bf16 and sums in float32.
static __device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                                unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// d += A B, with sums in float32; of A and B in float32 only the tf32 part is used (see to_tf32).
static __device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                                unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Rounds x to tf32, to nearest, ties away from zero. Returns the bits.
static __device__ __forceinline__ unsigned to_tf32(float x)
{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

// Starts a copy of BYTES (4, 8 or 16, to which both addresses are aligned) from global to shared
// memory. The first `valid` bytes are copied, the others zeroed; with valid 0 `from` isn't read.
// The copying thread sees the bytes after cp_async_wait, other threads after a barrier that follows
// it.
template <int BYTES>
static __device__ __forceinline__ void cp_async(void *to_shared, const void *from,
                                                int valid = BYTES)
{
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    if constexpr (BYTES == 16)
        asm volatile(
            "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)),
            "l"(__cvta_generic_to_global(from)), "r"(valid)
            : "memory");
    else
        asm volatile(
            "cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to_shared)),
            "l"(__cvta_generic_to_global(from)), "n"(BYTES), "r"(valid)
            : "memory");
}
// Ends a group of this thread's copies, which may be empty.
static __device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for all groups of this thread's copies but the last N.
template <int N> static __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// A barrier of `threads` threads (whole warps) with a number from 1 to 15; __syncthreads has 0.
static __device__ __forceinline__ void named_barrier(int number, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// 2^x and tanh x by one instruction each, with relative errors of about 2^-22 and 2^-11.
static __device__ __forceinline__ float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
static __device__ __forceinline__ float tanh_approx(float x)
{
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

// Rounds two floats to bf16 and packs them into a register, `low` in its lower half.
static __device__ __forceinline__ unsigned pack_bf16(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned *>(&pair);
}

#endif
