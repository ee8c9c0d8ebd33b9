// The state, types and launch macros that the sources of the CUDA plug-in share.
// SPDX-License-Identifier: MIT
//
// The sources of operations are compiled twice: with CUDA_BITS 16 for activations in bfloat16, with
// 32 for float32. CUDA_FN(linear) is cuda_bf16_linear or cuda_f32_linear, and `real` is the
// activations' type. All operations run on the device's stream, or between side_begin and side_end
// on the one beside it. They neither wait for the GPU nor allocate memory (except cuda_scratch,
// before recording), so that any list of them can be recorded as a graph.
#ifndef DIT_CUDA_BACKEND_H
#define DIT_CUDA_BACKEND_H

#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"

#if !defined CUDASIM && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#else
static inline void nvtxRangePushA(const char *)
{
}
static inline void nvtxRangePop()
{
}
#endif

struct gemm_context; // kernels/cuda/gemm.h
struct group;        // kernels/cuda/group.h
struct profile;      // kernels/cuda/profile.h
struct record;       // kernels/cuda/backend.cu

// A ring of pinned buffers, through which data are copied to the GPU on a stream.
#define UPLOAD_STAGES 4
struct stage {
    unsigned char *memory;
    size_t used;
    cudaEvent_t taken; // recorded after the stage's last copy to the GPU
};
struct staging {
    cudaStream_t stream;
    struct stage stages[UPLOAD_STAGES];
    int stage; // index of the one that is being filled
};

// A stream beside the device's, with working memory of its own.
struct side {
    cudaStream_t stream;
    void *scratch;
    size_t scratch_size;
    cudaEvent_t fork, join; // order it after, and before, the device's stream
    bool active;            // operations go there: it has changed places with the device's stream
    bool busy;              // it has work since the last side_wait
};

struct cuda_state {
    int index;
    cudaStream_t stream;
    bool tf32; // float32 products use tf32
    int multiprocessors;
    int major;            // of the compute capability
    int block_shared_max; // bytes of shared memory that a block can have
    struct gemm_context *gemm;
    struct profile *profile; // NULL unless one pass is measured
    void *scratch;
    size_t scratch_size;
    struct side side;
    bool recording;
    struct record *records; // of device_repeat
    struct staging uploads; // uses the device's stream
    struct staging sends;   // has its own stream, from the first send on
    cudaEvent_t sent;
    struct group *group;                // NULL if there is none or it was lost
    bool group_lost;                    // it failed and was aborted
    cudaStream_t group_stream;          // for its sums and copies
    cudaEvent_t group_fork, group_join; // order the group's stream after, and before, the device's
    bool group_busy;                    // group_stream has work since the last group_wait
};

static inline struct cuda_state *cuda_state(const struct device *device)
{
    return static_cast<struct cuda_state *>(device->state);
}

// Sets the device's error if a call failed, with CUDA's message. CUDA may report the fault of an
// earlier kernel only now; the message then says so.
void cuda_check(struct device *device, cudaError_t error, const char *what);

// Waits for an event, or if NULL for the whole stream of the device; an error says `what` failed.
void cuda_wait_for(struct device *device, cudaEvent_t event, const char *what);

// The group functions of struct backend (group.cu).
int cuda_group_join(struct device *device, const unsigned char name[GROUP_NAME], int rank, int size,
                    char why[256]);
void cuda_group_sum(struct device *device, void *x, size_t n, enum group_type type, int root);
void cuda_group_broadcast(struct device *device, void *x, size_t bytes, int root);
void cuda_group_wait(struct device *device);
void cuda_group_leave(struct device *device);

// Returns at least `bytes` of working memory for the current operation, 256-byte aligned, with
// undefined contents. NULL with the device's error.
void *cuda_scratch(struct device *device, size_t bytes);

// The least shared memory that a block can have on a GPU since Ampere. Kernels that need more ask
// for block_shared_max.
constexpr int SMALLEST_SHARED_MAX = 99 << 10;

// Frees what device_repeat has recorded; it is recorded again when it is next repeated.
void cuda_free_graphs(struct device *device);

// Launches a kernel on the device's stream. NVIDIA's profilers show its name and place as a range.
#define RUN_KERNEL(device, kernel, grid, block, shared, ...)                                     \
    do {                                                                                         \
        static const char kernel_place[] = #kernel " (" __FILE__ ":" TEXT_OF(__LINE__) ")";      \
        nvtxRangePushA(kernel_place);                                                            \
        cuda_check(device,                                                                       \
                   LAUNCH(kernel, grid, block, shared, cuda_state(device)->stream, __VA_ARGS__), \
                   kernel_place);                                                                \
        nvtxRangePop();                                                                          \
    } while (0)
#define TEXT_OF(macro)     LITERAL_TEXT(macro)
#define LITERAL_TEXT(text) #text

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

constexpr size_t PACK = 16 / sizeof(real); // activations of a wide load or store (vector.h)
#endif

// Returns the sum over a warp's lanes to all of them.
template <class S> static __device__ __forceinline__ S warp_sum(S x)
{
    for (int lane = 16; lane; lane /= 2)
        x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

#endif
