// What the sources of the CUDA plug-in share. SPDX-License-Identifier: MIT
//
// An operation's source is compiled twice: with CUDA_BITS 16, for activations in bfloat16, and with
// 32, for float32. CUDA_FN(linear) is cuda_bf16_linear or cuda_f32_linear, `real` the activations'
// type. All work goes to the device's one stream; nothing in an operation waits for the GPU or
// allocates (but cuda_scratch, before the first record), so that any list of operations can be
// recorded as a graph.
#ifndef DIT_CUDA_BACKEND_H
#define DIT_CUDA_BACKEND_H

#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"

struct gemm_context; // kernels/cuda/gemm.h
struct group;        // kernels/cuda/group.h

// Pinned memory in stages, through which what goes to the GPU goes on a stream.
#define UPLOAD_STAGES 4
struct stage {
    unsigned char *memory;
    size_t used;
    cudaEvent_t taken; // by the GPU, all of it
};
struct staging {
    cudaStream_t stream;
    struct stage stages[UPLOAD_STAGES];
    int stage; // the one that is being filled
};

struct cuda_state {
    int index;
    cudaStream_t stream;
    bool tf32; // products of float32 by tf32
    int multiprocessors;
    int major; // of the compute capability
    struct gemm_context *gemm;
    void *scratch;
    size_t scratch_size;
    bool recording;
    struct staging uploads; // on the device's stream
    struct staging sends;   // on one of its own, from the first send on
    cudaEvent_t sent;
    struct group *group;                // NULL: none, or it was lost
    bool group_lost;                    // something failed in it, and it was aborted
    cudaStream_t group_stream;          // of its sums and copies
    cudaEvent_t group_fork, group_join; // from the device's stream and to it
    bool group_works;                   // has been forked since group_wait
};

static inline struct cuda_state *cuda_state(const struct device *device)
{
    return static_cast<struct cuda_state *>(device->state);
}

// Sets the device's error, if there is one, with CUDA's words. An earlier operation's fault may be
// seen only now: it is told from an error of this call.
void cuda_check(struct device *device, cudaError_t error, const char *what);

// Waits for an event, NULL: for all that is on the device's stream; `what` for an error.
void cuda_wait_for(struct device *device, cudaEvent_t event, const char *what);

// What struct backend wants of a group (group.cu).
int cuda_group_join(struct device *device, const unsigned char name[GROUP_NAME], int rank, int size,
                    char why[256]);
void cuda_group_sum(struct device *device, void *x, size_t n, enum group_type type, int root);
void cuda_group_broadcast(struct device *device, void *x, size_t bytes, int root);
void cuda_group_wait(struct device *device);
void cuda_group_leave(struct device *device);

// At least `bytes` of working memory of the operation that runs, 256-byte aligned, contents
// undefined. NULL with the device's error set.
void *cuda_scratch(struct device *device, size_t bytes);

// Launches on the device's stream.
#define RUN_KERNEL(device, kernel, grid, block, shared, ...)                                 \
    cuda_check(device,                                                                       \
               LAUNCH(kernel, grid, block, shared, cuda_state(device)->stream, __VA_ARGS__), \
               #kernel)

static inline unsigned blocks_for(size_t n, size_t per_block)
{
    return static_cast<unsigned>((n + per_block - 1) / per_block);
}

#ifdef CUDA_BITS
#if CUDA_BITS == 16
typedef __nv_bfloat16 real;
#define CUDA_FN(name) cuda_bf16_##name
#else
typedef float real;
#define CUDA_FN(name) cuda_f32_##name
#endif

struct act {
    real v;
};

#define OP(name, cpu, params, args) void CUDA_FN(name)(struct device * device OP_PARAMS params);
#include "kernels/ops.def"
#undef OP

static inline real *reals(act *x)
{
    return &x->v;
}
static inline const real *reals(const act *x)
{
    return &x->v;
}

static __device__ __forceinline__ float to_float(real x)
{
    return static_cast<float>(x);
}
static __device__ __forceinline__ real to_real(float x)
{
    return static_cast<real>(x);
}

#define PACK (16 / sizeof(real)) // activations of a wide load or store (vector.h)
#endif

// The sum over a warp's lanes, in all of them.
template <class S> static __device__ __forceinline__ S warp_sum(S x)
{
    for (int lane = 16; lane; lane /= 2)
        x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

#endif
