// Elementwise operations, and the inputs and outputs of the transformer: patches, time steps,
// classes.
// SPDX-License-Identifier: MIT
//
// Everything is bound by memory: each array is read or written once, a vector of 16 bytes for each
// thread if sizes and addresses allow. Samples are along the grid's y, so that no thread divides to
// find its own. The code for patches, time steps and classes is plain, as these are a few megabytes
// of a step that moves hundreds of gigabytes.
#include "kernels/cuda/gelu.h"
#include "kernels/cuda/vector.h"

static __device__ __forceinline__ float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static __device__ __forceinline__ float silu(float x)
{
    return x * sigmoid(x);
}

template <int WIDTH, float (*F)(float)>
static __global__ void __launch_bounds__(THREADS) map_kernel(real *y, const real *x, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    float v[WIDTH];
    load(v, x + i);
    for (int k = 0; k < WIDTH; k++)
        v[k] = F(v[k]);
    store(y + i, v);
}

// y = F(x)
template <float (*F)(float)>
static void map(struct device *device, real *y, const real *x, size_t n)
{
    if (n == 0)
        return;
    const bool wide = can_be_wide(n, PACK, y, x);
    const auto elementwise = wide ? map_kernel<PACK, F> : map_kernel<1, F>;
    RUN_KERNEL(device, elementwise, blocks_for(n, THREADS * (wide ? PACK : 1)), THREADS, 0, y, x,
               n);
}

void CUDA_FN(silu)(struct device *device, act *y, const act *x, size_t n)
{
    map<silu>(device, reals(y), reals(x), n);
}

void CUDA_FN(gelu)(struct device *device, act *y, const act *x, size_t n)
{
    map<gelu>(device, reals(y), reals(x), n);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    silu_backward_kernel(real *dx, const real *dy, const real *x, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    float v[WIDTH], d[WIDTH];
    load(v, x + i);
    load(d, dy + i);
    for (int k = 0; k < WIDTH; k++) {
        const float s = sigmoid(v[k]);
        d[k] *= s * (1 + v[k] * (1 - s));
    }
    store(dx + i, d);
}

void CUDA_FN(silu_backward)(struct device *device, act *dx, const act *dy, const act *x, size_t n)
{
    if (n == 0)
        return;
    const bool wide = can_be_wide(n, PACK, reals(dx), reals(dy), reals(x));
    const auto silu_backward = wide ? silu_backward_kernel<PACK> : silu_backward_kernel<1>;
    RUN_KERNEL(device, silu_backward, blocks_for(n, THREADS * (wide ? PACK : 1)), THREADS, 0,
               reals(dx), reals(dy), reals(x), n);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    add_row_kernel(real *x, const real *row, size_t B, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    float add[WIDTH], v[WIDTH];
    load(add, row + i);
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        load(v, x + b * n + i);
        for (int k = 0; k < WIDTH; k++)
            v[k] += add[k];
        store(x + b * n + i, v);
    }
}

void CUDA_FN(add_row)(struct device *device, act *x, const act *row, size_t B, size_t n)
{
    if (B == 0 || n == 0)
        return;
    const bool wide = can_be_wide(n, PACK, reals(x), reals(row));
    const auto add_row = wide ? add_row_kernel<PACK> : add_row_kernel<1>;
    // A thread takes four samples, so that it reads the row only once for four rows of x.
    RUN_KERNEL(device, add_row, sample_grid((B + 3) / 4, n, wide ? PACK : 1), THREADS, 0, reals(x),
               reals(row), B, n);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS) to_act_kernel(real *y, const float *x, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    float v[WIDTH];
    load(v, x + i);
    store(y + i, v);
}

void CUDA_FN(to_act)(struct device *device, act *y, const float *x, size_t n)
{
    if (n == 0)
        return;
    const bool wide = can_be_wide(n, 4, reals(y), x);
    const auto to_act = wide ? to_act_kernel<4> : to_act_kernel<1>;
    RUN_KERNEL(device, to_act, blocks_for(n, THREADS * (wide ? 4 : 1)), THREADS, 0, reals(y), x, n);
}

// The position of an element of a sample (C,H,W): its token, and its row, column and channel in
// that token's patch.
struct patch_sizes {
    unsigned C, H, W, P;
};
struct patch_element {
    unsigned token, row, column, channel;
};

static __device__ __forceinline__ struct patch_element find_patch_element(unsigned i,
                                                                          struct patch_sizes s)
{
    const unsigned line = i / s.W, column = i % s.W, channel = line / s.H, row = line % s.H;
    return {row / s.P * (s.W / s.P) + column / s.P, row % s.P, column % s.P, channel};
}

// Threads are in the order of x, which is read or written sequentially; writes to a token's cache
// line combine in L2.
static __global__ void __launch_bounds__(THREADS)
    patchify_kernel(real *tokens, const float *x, size_t B, struct patch_sizes s)
{
    const unsigned n = s.C * s.H * s.W, i = static_cast<unsigned>(thread_place(1));
    if (i >= n)
        return;
    const struct patch_element p = find_patch_element(i, s);
    const unsigned at = ((p.token * s.C + p.channel) * s.P + p.row) * s.P + p.column;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        tokens[b * n + at] = to_real(x[b * n + i]);
}

static __device__ __forceinline__ unsigned token_element(struct patch_element p,
                                                         struct patch_sizes s)
{
    return ((p.token * s.P + p.row) * s.P + p.column) * s.C + p.channel;
}

static __global__ void __launch_bounds__(THREADS)
    unpatchify_kernel(float *x, const real *tokens, size_t B, struct patch_sizes s)
{
    const unsigned n = s.C * s.H * s.W, i = static_cast<unsigned>(thread_place(1));
    if (i >= n)
        return;
    const unsigned at = token_element(find_patch_element(i, s), s);
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        x[b * n + i] = to_float(tokens[b * n + at]);
}

static __global__ void __launch_bounds__(THREADS)
    unpatchify_backward_kernel(real *dtokens, const float *dx, size_t B, struct patch_sizes s)
{
    const unsigned n = s.C * s.H * s.W, i = static_cast<unsigned>(thread_place(1));
    if (i >= n)
        return;
    const unsigned at = token_element(find_patch_element(i, s), s);
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        dtokens[b * n + at] = to_real(dx[b * n + i]);
}

static struct patch_sizes sizes_of(size_t C, size_t H, size_t W, size_t P)
{
    return {static_cast<unsigned>(C), static_cast<unsigned>(H), static_cast<unsigned>(W),
            static_cast<unsigned>(P)};
}

void CUDA_FN(patchify)(struct device *device, act *tokens, const float *x, size_t B, size_t C,
                       size_t H, size_t W, size_t P)
{
    if (B * C * H * W > 0)
        RUN_KERNEL(device, patchify_kernel, sample_grid(B, C * H * W, 1), THREADS, 0, reals(tokens),
                   x, B, sizes_of(C, H, W, P));
}

void CUDA_FN(unpatchify)(struct device *device, float *x, const act *tokens, size_t B, size_t C,
                         size_t H, size_t W, size_t P)
{
    if (B * C * H * W > 0)
        RUN_KERNEL(device, unpatchify_kernel, sample_grid(B, C * H * W, 1), THREADS, 0, x,
                   reals(tokens), B, sizes_of(C, H, W, P));
}

void CUDA_FN(unpatchify_backward)(struct device *device, act *dtokens, const float *dx, size_t B,
                                  size_t C, size_t H, size_t W, size_t P)
{
    if (B * C * H * W > 0)
        RUN_KERNEL(device, unpatchify_backward_kernel, sample_grid(B, C * H * W, 1), THREADS, 0,
                   reals(dtokens), dx, B, sizes_of(C, H, W, P));
}

// Reduces the angle in double: it reaches 999 radians, where float32 has lost four decimal digits.
static __global__ void __launch_bounds__(THREADS)
    timestep_features_kernel(real *f, const float *t, size_t B, size_t N)
{
    const size_t half = N / 2, i = thread_place(1);
    if (i >= half)
        return;
    const double frequency =
        exp(-log(10000.0) * static_cast<double>(i) / static_cast<double>(half));
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        const double turns = t[b] * frequency / (2 * M_PI);
        float sine, cosine;
        sincospif(2 * static_cast<float>(turns - rint(turns)), &sine, &cosine);
        f[b * N + i] = to_real(cosine);
        f[b * N + half + i] = to_real(sine);
    }
}

void CUDA_FN(timestep_features)(struct device *device, act *f, const float *t, size_t B, size_t N)
{
    if (B > 0 && N > 1)
        RUN_KERNEL(device, timestep_features_kernel, sample_grid(B, N / 2, 1), THREADS, 0, reals(f),
                   t, B, N);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    embedding_add_kernel(real *y, const real *x, const real *table, const int32_t *labels, size_t B,
                         size_t D)
{
    const size_t d = thread_place(WIDTH);
    if (d >= D)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        float v[WIDTH], add[WIDTH];
        load(v, x + b * D + d);
        load(add, table + labels[b] * D + d);
        for (int k = 0; k < WIDTH; k++)
            v[k] += add[k];
        store(y + b * D + d, v);
    }
}

void CUDA_FN(embedding_add)(struct device *device, act *y, const act *x, const act *table,
                            const int32_t *labels, size_t B, size_t D)
{
    if (B == 0 || D == 0)
        return;
    const bool wide = can_be_wide(D, PACK, reals(y), reals(x), reals(table));
    const auto embedding_add = wide ? embedding_add_kernel<PACK> : embedding_add_kernel<1>;
    RUN_KERNEL(device, embedding_add, sample_grid(B, D, wide ? PACK : 1), THREADS, 0, reals(y),
               reals(x), reals(table), labels, B, D);
}

// The first sample of each label adds the gradients of all samples with that label, in order; the
// others do nothing. A warp compares 32 labels at once.
static __global__ void __launch_bounds__(THREADS)
    embedding_backward_kernel(float *dtable, const real *dy, const int32_t *labels, size_t B,
                              size_t D)
{
    const size_t d = thread_place(1), lane = threadIdx.x % 32;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        const int32_t label = labels[b];
        float sum = 0;
        bool first = true;
        for (size_t from = 0; first && from < B; from += 32) {
            const bool same = from + lane < B && labels[from + lane] == label;
            for (unsigned left = __ballot_sync(~0u, same); first && left; left &= left - 1) {
                const size_t sample = from + __ffs(static_cast<int>(left)) - 1;
                first = sample >= b;
                if (first && d < D)
                    sum += to_float(dy[sample * D + d]);
            }
        }
        if (first && d < D)
            dtable[label * D + d] += sum;
    }
}

void CUDA_FN(embedding_backward)(struct device *device, float *dtable, const act *dy,
                                 const int32_t *labels, size_t B, size_t D)
{
    if (B > 0 && D > 0)
        RUN_KERNEL(device, embedding_backward_kernel, sample_grid(B, D, 1), THREADS, 0, dtable,
                   reals(dy), labels, B, D);
}
