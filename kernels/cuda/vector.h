// Wide loads and stores, and block-wide sums. SPDX-License-Identifier: MIT
//
// A kernel template's WIDTH is the number of elements that a thread takes at a time: as many as fit
// in 16 bytes if sizes and addresses allow (can_be_wide), else 1.
#ifndef DIT_CUDA_VECTOR_H
#define DIT_CUDA_VECTOR_H

#include "kernels/cuda/backend.h"

constexpr int THREADS = 256; // of a block, unless a kernel has its own number

// N elements of a wide load. bfloat16 is in pairs, as nvcc loads arrays of single ones one by one.
template <class S, int N> struct alignas(N * sizeof(S)) vector {
    S v[N];
};
template <int N> struct alignas(N * sizeof(__nv_bfloat16)) vector<__nv_bfloat16, N> {
    unsigned v[N / 2];
};
template <> struct vector<__nv_bfloat16, 1> {
    __nv_bfloat16 v[1];
};

template <int N>
static __device__ __forceinline__ void unpack(float (&to)[N], const vector<float, N> &from)
{
    for (int i = 0; i < N; i++)
        to[i] = from.v[i];
}
template <int N>
static __device__ __forceinline__ void unpack(float (&to)[N], const vector<__nv_bfloat16, N> &from)
{
    if constexpr (N == 1) {
        to[0] = __bfloat162float(from.v[0]);
    } else {
        for (int i = 0; i < N / 2; i++) {
            to[2 * i] = __uint_as_float(from.v[i] << 16);
            to[2 * i + 1] = __uint_as_float(from.v[i] & 0xffff0000u);
        }
    }
}

// By value, as nvcc would load the elements of a reference one by one.
template <int N, class S> static __device__ __forceinline__ vector<S, N> load_whole(const S *from)
{
    return *reinterpret_cast<const vector<S, N> *>(from);
}
template <int N, class S> static __device__ __forceinline__ void load(float (&to)[N], const S *from)
{
    const vector<S, N> whole = load_whole<N>(from);
    unpack(to, whole);
}

template <int N>
static __device__ __forceinline__ void pack_floats(vector<float, N> &to, const float (&from)[N])
{
    for (int i = 0; i < N; i++)
        to.v[i] = from[i];
}
template <int N>
static __device__ __forceinline__ void pack_floats(vector<__nv_bfloat16, N> &to,
                                                   const float (&from)[N])
{
    if constexpr (N == 1) {
        to.v[0] = __float2bfloat16(from[0]);
    } else {
        for (int i = 0; i < N / 2; i++)
            to.v[i] = pack_bf16(from[2 * i], from[2 * i + 1]);
    }
}

template <int N, class S>
static __device__ __forceinline__ void store(S *to, const float (&from)[N])
{
    vector<S, N> whole;
    pack_floats(whole, from);
    if constexpr (sizeof whole % 16 == 0) { // else nvcc may store the elements one by one
        uint4 parts[sizeof whole / 16];
        memcpy(parts, &whole, sizeof whole);
        for (size_t i = 0; i < sizeof whole / 16; i++)
            __stcg(reinterpret_cast<uint4 *>(to) + i, parts[i]);
    } else {
        *reinterpret_cast<vector<S, N> *>(to) = whole;
    }
}

// The index of a thread's first element, if each thread takes `width` elements and blocks have
// THREADS threads.
static __device__ __forceinline__ size_t thread_place(int width)
{
    return (blockIdx.x * static_cast<size_t>(THREADS) + threadIdx.x) * width;
}

// Whether the rows of all arrays, which are n elements apart, begin at multiples of `width`
// elements (of at most 16 bytes). NULL counts as aligned.
template <class... S> static inline bool can_be_wide(size_t n, size_t width, const S *...arrays)
{
    return n % width == 0 &&
           ((reinterpret_cast<uintptr_t>(arrays) % (width * sizeof(S)) == 0) && ...);
}

// A grid of blocks of THREADS: x covers n elements, `width` for each thread; y covers B samples, in
// steps of gridDim.y, which may be less than B.
static inline dim3 sample_grid(size_t B, size_t n, size_t width)
{
    return dim3(blocks_for(n, THREADS * width), static_cast<unsigned>(B < 65535 ? B : 65535));
}

// Returns the sum over a block's threads to all of them; the order is fixed. Blocks are whole
// warps.
template <class S> static __device__ __forceinline__ S block_sum(S x)
{
    SHARED(S, parts, [32]);
    x = warp_sum(x);
    __syncthreads(); // threads may still read the parts of an earlier sum
    if (threadIdx.x % 32 == 0)
        parts[threadIdx.x / 32] = x;
    __syncthreads();
    S sum = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++)
        sum += parts[warp];
    return sum;
}

#endif
