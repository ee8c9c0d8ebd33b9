// 3x3 convolutions, channels last, as matrix products on tensor cores.
// SPDX-License-Identifier: MIT
//
// A convolution is an implicit product (pixels, 9 I) (9 I, O): 18 I O operations for each pixel of
// y, on I activations of x and O of y. So from I = 64 on, the tensor cores are the limit, provided
// that the nine reads of each x come from shared memory. They do: a block makes a tile of TH x TW
// pixels by N channels of y and keeps the window of x that the tile depends on, for a chunk of 128
// bytes of channels. It multiplies the window by the nine taps one after the other, each with its
// own slice of the weights (N output channels by the chunk). x is never expanded in global memory;
// for nearest-neighbour upsampling the window has half the sides. For a 16 x 16 x 128 tile a chunk
// moves 41 KB of x and 147 KB of weights, for 2.1 million multiply-adds (bf16) a tap.
//
// Copies (cp.async, with zeros for padding) run ahead of the products: weights by STAGES - 1 taps,
// in a ring of slices; the window by one chunk, in the second of two buffers. Both are arrays of
// 128-byte slots (for a pixel, or an output channel), whose 16-byte vectors are permuted by
// exclusive or with the slot's number, so that neither the copies nor ldmatrix have bank conflicts.
// Output channels are assigned to the columns of the products so that a thread ends with adjacent
// ones, for wide stores. With g = lane / 4 and t = lane % 4, this is what a warp of the large tile
// sums, 64 pixels by 64 channels; each lane has 2 by 8 elements of each square:
//
//                    32 channels         32 channels
//                    8t .. 8t+7 of them  8t .. 8t+7 of them
//     16 pixels      g and g + 8         g and g + 8
//     16 pixels      g and g + 8         g and g + 8
//     16 pixels      g and g + 8         g and g + 8
//     16 pixels      g and g + 8         g and g + 8
//
// In float32 a step of mma_tf32 takes the same bytes as one of mma_bf16, so all of this holds for
// both. Exact float32 takes three products of factors that are split in two.
//
// If I is no multiple of a 16-byte vector (the first layers have 3 or 4 channels), a plain kernel
// multiplies tiles of 64 pixels by 64 channels with float32 sums and does not pad I.
#include "kernels/cuda/vector.h"

constexpr int VECTOR = PACK;              // activations in 16 bytes
constexpr int SLOT_BYTES = 128;           // of a pixel or an output channel
constexpr int SLOT_CHANNELS = 8 * VECTOR; // the chunk of channels that a slot holds

struct convolution {
    real *y; // may be sum
    const real *x, *w, *b, *sum;
    int H, W, I, O, out_H, out_W;
    int tiles, tiles_across, channel_tiles; // in an image; in a row of an image; in O
    bool wide;                              // rows of y and sum can be accessed 16 bytes at a time
};

// A block's tile: TH x TW pixels by N channels of y, divided among WARPS_M x WARPS_N warps, with a
// ring of STAGES slices of weights. MIN_BLOCKS of them fit on a multiprocessor of an H100, unless
// each product takes three. Where other blocks, or few products, leave little time to hide, three
// stages are enough; then all tiles but one kind of large ones fit GPUs with 99 KB a block.
template <int TH_, int TW_, int N_, int WARPS_M_, int WARPS_N_, int STAGES_, int MIN_BLOCKS_>
struct tile {
    static constexpr int TH = TH_, TW = TW_, N = N_, WARPS_M = WARPS_M_, WARPS_N = WARPS_N_;
    static constexpr int STAGES = STAGES_, MIN_BLOCKS = MIN_BLOCKS_;
    static constexpr int THREADS = WARPS_M * WARPS_N * 32;
    static constexpr int SLICE_BYTES = N * SLOT_BYTES;
    static constexpr int M_TILES = TH * TW / WARPS_M / 16, N_TILES = N / WARPS_N / 8; // of a warp
    static constexpr int ADJACENT = N_TILES < 4 ? N_TILES : 4; // tiles with adjacent channels
    static_assert(TH % 2 == 0 && TW % 2 == 0, "upsampling needs whole pairs of pixels");
    static_assert(M_TILES * WARPS_M * 16 == TH * TW && N_TILES * WARPS_N * 8 == N,
                  "warps take whole products");
    static_assert(N_TILES % ADJACENT == 0 && N_TILES % 2 == 0, "ldmatrix loads two columns");
};
using large_tile = tile<16, 16, 128, 4, 2, 4, 1>;
using medium_tile = tile<8, 16, 128, 2, 4, 3, 2>;
using small_tile = tile<8, 8, 64, 2, 2, 3, 4>;
using thin_tile = tile<8, 8, 16, 4, 1, 3, 6>;

// The window of x that a tile of y depends on. Its pixels have slots in row order. With CONV_DOWN a
// tap takes every second pixel, so the even columns of a row come before the odd ones: neighbours
// in y then read neighbouring slots.
template <conv_kind KIND, class T> struct window {
    static constexpr int ROWS = KIND == CONV_DOWN ? 2 * T::TH + 1
                                : KIND == CONV_UP ? T::TH / 2 + 2
                                                  : T::TH + 2;
    static constexpr int COLUMNS = KIND == CONV_DOWN ? 2 * T::TW + 1
                                   : KIND == CONV_UP ? T::TW / 2 + 2
                                                     : T::TW + 2;
    static constexpr int BYTES = ROWS * COLUMNS * SLOT_BYTES;

    static __device__ __forceinline__ int slot(int row, int column)
    {
        return row * COLUMNS + (KIND == CONV_DOWN ? column % 2 * (T::TW + 1) + column / 2 : column);
    }
    // The slot that pixel (row, column) of the tile reads for a tap.
    static __device__ __forceinline__ int tap_slot(int row, int column, int tap)
    {
        const int down = tap / 3, right = tap % 3;
        return KIND == CONV_DOWN ? slot(2 * row + down, 2 * column + right)
               : KIND == CONV_UP ? slot((row + down + 1) / 2, (column + right + 1) / 2)
                                 : slot(row + down, column + right);
    }
};

// The shared memory of a block: two windows, then the ring of slices.
template <conv_kind KIND, class T>
static constexpr int shared_bytes = 2 * window<KIND, T>::BYTES + T::STAGES *T::SLICE_BYTES;
static_assert(shared_bytes<CONV_SAME, medium_tile> <= SMALLEST_SHARED_MAX &&
                  shared_bytes<CONV_UP, large_tile> <= SMALLEST_SHARED_MAX &&
                  shared_bytes<CONV_DOWN, small_tile> <= SMALLEST_SHARED_MAX,
              "a tile that is chosen without asking for the GPU's shared memory");

// The slot of a slice that holds channel `c`: T::ADJACENT products of 8 columns share 8 T::ADJACENT
// channels, of which lane t of four has those from 2 T::ADJACENT t on.
template <class T> static __device__ __forceinline__ int channel_slot(int c)
{
    constexpr int thread_channels = 2 * T::ADJACENT;
    return c / (4 * thread_channels) * (4 * thread_channels) + c % thread_channels / 2 * 8 +
           c / thread_channels % 4 * 2 + c % 2;
}

static __device__ __forceinline__ unsigned char *vector_at(unsigned char *slots, int slot,
                                                           int index)
{
    return slots + slot * SLOT_BYTES + (index ^ slot % 8) * 16;
}

// first_row and first_column are where the window begins in the image; they may be -1.
template <conv_kind KIND, class T>
static __device__ __forceinline__ void load_window(unsigned char *to, const struct convolution &p,
                                                   const real *image, int first_row,
                                                   int first_column, int chunk)
{
    using x_window = window<KIND, T>;
    for (int i = threadIdx.x; i < x_window::ROWS * x_window::COLUMNS * 8; i += T::THREADS) {
        const int pixel = i / 8, index = i % 8, channel = chunk * SLOT_CHANNELS + index * VECTOR;
        const int row = first_row + pixel / x_window::COLUMNS;
        const int column = first_column + pixel % x_window::COLUMNS;
        const bool inside = row >= 0 && row < p.H && column >= 0 && column < p.W && channel < p.I;
        const int slot = x_window::slot(pixel / x_window::COLUMNS, pixel % x_window::COLUMNS);
        const size_t at = (static_cast<size_t>(row) * p.W + column) * p.I + channel;
        cp_async<16>(vector_at(to, slot, index), inside ? image + at : image, inside ? 16 : 0);
    }
}

template <class T>
static __device__ __forceinline__ void load_slice(unsigned char *to, const struct convolution &p,
                                                  int first, int chunk, int tap)
{
    for (int i = threadIdx.x; i < T::N * 8; i += T::THREADS) {
        const int o = first + i / 8, index = i % 8,
                  channel = chunk * SLOT_CHANNELS + index * VECTOR;
        const bool inside = o < p.O && channel < p.I;
        const size_t at = (static_cast<size_t>(o) * 9 + tap) * p.I + channel;
        cp_async<16>(vector_at(to, channel_slot<T>(i / 8), index), inside ? p.w + at : p.w,
                     inside ? 16 : 0);
    }
}

// The registers of a factor of mma.
template <int N> struct factor {
    unsigned high[N], low[N]; // low: the rest of float32 after tf32, for three products
};

template <int PRODUCTS, int N>
static __device__ __forceinline__ void load_factor(struct factor<N> &f, const void *row)
{
    ldmatrix(f.high, row);
#if CUDA_BITS == 32
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float x = __uint_as_float(f.high[i]);
        if constexpr (PRODUCTS == 1) {
            f.high[i] = to_tf32(x);
        } else {
            f.high[i] &= 0xffffe000;
            f.low[i] = __float_as_uint(x - __uint_as_float(f.high[i]));
        }
    }
#endif
}

// d += a b, with registers i and i + 1 of b.
template <int PRODUCTS>
static __device__ __forceinline__ void multiply(float (&d)[4], const struct factor<4> &a,
                                                const struct factor<4> &b, int i)
{
#if CUDA_BITS == 16
    mma_bf16(d, a.high, b.high[i], b.high[i + 1]);
#else
    if constexpr (PRODUCTS == 1) {
        mma_tf32(d, a.high, b.high[i], b.high[i + 1]);
    } else {
        // Tensor cores truncate their sums, so they add only the three products of one step.
        float sum[4] = {};
        mma_tf32(sum, a.low, b.high[i], b.high[i + 1]);
        mma_tf32(sum, a.high, b.low[i], b.low[i + 1]);
        mma_tf32(sum, a.high, b.high[i], b.high[i + 1]);
#pragma unroll
        for (int j = 0; j < 4; j++)
            d[j] += sum[j];
    }
#endif
}

// The products of a warp for one tap of one chunk.
template <conv_kind KIND, class T, int PRODUCTS>
static __device__ __forceinline__ void multiply_tap(float (&sums)[T::M_TILES][T::N_TILES][4],
                                                    const unsigned char *pixels,
                                                    const unsigned char *slice, int tap)
{
    const int warp_m = threadIdx.x / 32 % T::WARPS_M, warp_n = threadIdx.x / 32 / T::WARPS_M;
    const int lane = threadIdx.x % 32;
    // Where this lane's rows of the factors begin. Each step k is 32 bytes further on; as the
    // vectors are permuted, that is an exclusive or with the offset.
    int from[T::M_TILES];
#pragma unroll
    for (int m = 0; m < T::M_TILES; m++) {
        const int pixel = (warp_m * T::M_TILES + m) * 16 + lane % 16;
        const int slot = window<KIND, T>::tap_slot(pixel / T::TW, pixel % T::TW, tap);
        from[m] = slot * SLOT_BYTES + (lane / 16 ^ slot % 8) * 16;
    }
    const int slot = warp_n * T::N_TILES * 8 + lane / 16 * 8 + lane % 8;
    const int weights = slot * SLOT_BYTES + (lane / 8 % 2 ^ slot % 8) * 16;
#pragma unroll
    for (int k = 0; k < SLOT_BYTES; k += 32) {
        struct factor<4> a[T::M_TILES];
#pragma unroll
        for (int m = 0; m < T::M_TILES; m++)
            load_factor<PRODUCTS>(a[m], pixels + (from[m] ^ k));
#pragma unroll
        for (int n = 0; n < T::N_TILES; n += 2) {
            struct factor<4> b;
            load_factor<PRODUCTS>(b, slice + n * 8 * SLOT_BYTES + (weights ^ k));
#pragma unroll
            for (int m = 0; m < T::M_TILES; m++) {
                multiply<PRODUCTS>(sums[m][n], a[m], b, 0);
                multiply<PRODUCTS>(sums[m][n + 1], a[m], b, 2);
            }
        }
    }
}

// Adds bias and sum to N adjacent elements, and stores them in y from element `at`, which belongs
// to channel `channel`.
template <int N>
static __device__ __forceinline__ void store_outputs(const struct convolution &p, size_t at,
                                                     int channel, const float (&sums)[N],
                                                     const float (&bias)[N])
{
    constexpr int V = N < VECTOR ? N : VECTOR;
#pragma unroll
    for (int first = 0; first < N; first += V) {
        float values[V] = {};
        if (p.wide && channel + first < p.O) {
            if (p.sum)
                load(values, p.sum + at + first);
            for (int i = 0; i < V; i++)
                values[i] += sums[first + i] + bias[first + i];
            store(p.y + at + first, values);
        } else {
            for (int i = first; i < first + V && channel + i < p.O; i++)
                p.y[at + i] = to_real(sums[i] + bias[i] + (p.sum ? to_float(p.sum[at + i]) : 0.0f));
        }
    }
}

template <int N>
static __device__ __forceinline__ void load_bias(float (&bias)[N], const struct convolution &p,
                                                 int channel)
{
#pragma unroll
    for (int i = 0; i < N; i++)
        bias[i] = channel + i < p.O ? to_float(p.b[channel + i]) : 0.0f;
}

template <conv_kind KIND, class T, int PRODUCTS>
static __global__ void __launch_bounds__(T::THREADS, PRODUCTS == 1 ? T::MIN_BLOCKS : 0)
    convolve_tile(const __grid_constant__ struct convolution p)
{
    using x_window = window<KIND, T>;
    SHARED_DYNAMIC(unsigned char, shared);
    unsigned char *const windows = shared, *const slices = shared + 2 * x_window::BYTES;
    const int first_channel = blockIdx.x % p.channel_tiles * T::N;
    const int tile = blockIdx.x / p.channel_tiles % p.tiles;
    const size_t image = blockIdx.x / p.channel_tiles / p.tiles;
    const int tile_row = tile / p.tiles_across * T::TH, tile_column = tile % p.tiles_across * T::TW;
    const int row = KIND == CONV_DOWN ? 2 * tile_row
                    : KIND == CONV_UP ? tile_row / 2 - 1
                                      : tile_row - 1;
    const int column = KIND == CONV_DOWN ? 2 * tile_column
                       : KIND == CONV_UP ? tile_column / 2 - 1
                                         : tile_column - 1;
    const real *x = p.x + image * p.H * p.W * p.I;
    const int chunks = (p.I + SLOT_CHANNELS - 1) / SLOT_CHANNELS;

    float sums[T::M_TILES][T::N_TILES][4] = {};
    load_window<KIND, T>(windows, p, x, row, column, 0);
    for (int s = 0; s < T::STAGES - 1; s++) {
        load_slice<T>(slices + s * T::SLICE_BYTES, p, first_channel, 0, s);
        cp_async_commit();
    }
    int stage = 0, ahead = T::STAGES - 1,
        ahead_chunk = 0; // tap and chunk of the next slice to load
    for (int chunk = 0; chunk < chunks; chunk++) {
        for (int tap = 0; tap < 9; tap++) {
            cp_async_wait<T::STAGES - 2>();
            __syncthreads(); // also protects the slice and the window that are overwritten now
            if (ahead_chunk < chunks)
                load_slice<T>(slices + (stage + T::STAGES - 1) % T::STAGES * T::SLICE_BYTES, p,
                              first_channel, ahead_chunk, ahead);
            if (tap == 0 && chunk + 1 < chunks)
                load_window<KIND, T>(windows + (chunk + 1) % 2 * x_window::BYTES, p, x, row, column,
                                     chunk + 1);
            cp_async_commit();
            multiply_tap<KIND, T, PRODUCTS>(sums, windows + chunk % 2 * x_window::BYTES,
                                            slices + stage * T::SLICE_BYTES, tap);
            stage = (stage + 1) % T::STAGES;
            if (++ahead == 9) {
                ahead = 0;
                ahead_chunk++;
            }
        }
    }

    constexpr int thread_channels = 2 * T::ADJACENT;
    const int warp_m = threadIdx.x / 32 % T::WARPS_M, warp_n = threadIdx.x / 32 / T::WARPS_M;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < T::N_TILES; n += T::ADJACENT) {
        const int channel =
            first_channel + (warp_n * T::N_TILES + n) * 8 + lane % 4 * thread_channels;
        float bias[thread_channels];
        load_bias(bias, p, channel);
#pragma unroll
        for (int half = 0; half < 2 * T::M_TILES; half++) {
            const int pixel = warp_m * T::M_TILES * 16 + half * 8 + lane / 4;
            const int y_row = tile_row + pixel / T::TW, y_column = tile_column + pixel % T::TW;
            float values[thread_channels];
#pragma unroll
            for (int i = 0; i < thread_channels; i++)
                values[i] = sums[half / 2][n + i / 2][half % 2 * 2 + i % 2];
            if (y_row < p.out_H && y_column < p.out_W)
                store_outputs(p, ((image * p.out_H + y_row) * p.out_W + y_column) * p.O + channel,
                              channel, values, bias);
        }
    }
}

// The pixel that a tap (0 to 2) of output `to` reads along one side of x, of `size` pixels; -1 for
// padding.
static __device__ __forceinline__ int find_tap(conv_kind kind, int size, int to, int tap)
{
    const int at = kind == CONV_DOWN ? 2 * to + tap : to + tap - 1;
    if (at < 0 || at >= (kind == CONV_UP ? 2 * size : size))
        return -1;
    return kind == CONV_UP ? at / 2 : at;
}

constexpr int PLAIN_TILE = 64;  // pixels, and output channels, of a block
constexpr int PLAIN_DEPTH = 16; // columns of the factors in shared memory at a time

// Each thread sums 4 pixels by 4 channels; it loads column `threadIdx.x % PLAIN_DEPTH` of the
// factors.
static __global__ void __launch_bounds__(THREADS)
    convolve_plain(const __grid_constant__ struct convolution p, conv_kind kind)
{
    SHARED(float, pixels, [PLAIN_DEPTH][PLAIN_TILE + 4]);
    SHARED(float, weights, [PLAIN_DEPTH][PLAIN_TILE + 4]);
    const int first_channel = blockIdx.x % p.channel_tiles * PLAIN_TILE;
    const int first_pixel = blockIdx.x / p.channel_tiles % p.tiles * PLAIN_TILE;
    const size_t image = blockIdx.x / p.channel_tiles / p.tiles;
    const real *x = p.x + image * p.H * p.W * p.I;
    const int column = threadIdx.x % PLAIN_DEPTH, first = threadIdx.x / PLAIN_DEPTH,
              area = p.out_H * p.out_W;
    int rows[4], columns[4]; // of the pixels that this thread loads
    for (int i = 0; i < 4; i++) {
        const int pixel = first_pixel + first + i * (THREADS / PLAIN_DEPTH);
        rows[i] = pixel / p.out_W;
        columns[i] = pixel % p.out_W;
    }
    float sums[4][4] = {};
    for (int depth = 0; depth < 9 * p.I; depth += PLAIN_DEPTH) {
        const int k = depth + column, tap = k / p.I, channel = k % p.I;
        for (int i = 0; i < 4; i++) {
            const int at = first + i * (THREADS / PLAIN_DEPTH), o = first_channel + at;
            const int row = find_tap(kind, p.H, rows[i], tap / 3);
            const int from = find_tap(kind, p.W, columns[i], tap % 3);
            const bool inside = tap < 9 && rows[i] < p.out_H && row >= 0 && from >= 0;
            pixels[column][at] =
                inside ? to_float(x[(static_cast<size_t>(row) * p.W + from) * p.I + channel])
                       : 0.0f;
            weights[column][at] =
                tap < 9 && o < p.O ? to_float(p.w[static_cast<size_t>(o) * 9 * p.I + k]) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < PLAIN_DEPTH; j++) {
            float a[4], b[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                a[i] = pixels[j][first * 4 + i];
                b[i] = weights[j][column * 4 + i];
            }
#pragma unroll
            for (int i = 0; i < 16; i++)
                sums[i / 4][i % 4] += a[i / 4] * b[i % 4];
        }
        __syncthreads();
    }
    const int channel = first_channel + column * 4;
    float bias[4];
    load_bias(bias, p, channel);
    for (int i = 0; i < 4; i++) {
        const int pixel = first_pixel + first * 4 + i;
        if (pixel < area)
            store_outputs(p, (image * area + pixel) * p.O + channel, channel, sums[i], bias);
    }
}

static int divide_up(int n, int by)
{
    return (n + by - 1) / by;
}

template <class T> static size_t count_blocks(const struct convolution *p, size_t B)
{
    return B * divide_up(p->out_H, T::TH) * divide_up(p->out_W, T::TW) * divide_up(p->O, T::N);
}

template <conv_kind KIND, class T, int PRODUCTS>
static void run_tiles(struct device *device, struct convolution p, size_t B)
{
    constexpr int bytes = shared_bytes<KIND, T>;
    p.tiles_across = divide_up(p.out_W, T::TW);
    p.tiles = p.tiles_across * divide_up(p.out_H, T::TH);
    p.channel_tiles = divide_up(p.O, T::N);
    cuda_check(device,
               cudaFuncSetAttribute(convolve_tile<KIND, T, PRODUCTS>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "conv3x3");
    RUN_KERNEL(device, (convolve_tile<KIND, T, PRODUCTS>),
               static_cast<unsigned>(count_blocks<T>(&p, B)), T::THREADS, bytes, p);
}

// Chooses the largest tiles that fit the GPU's shared memory and of which there are enough for at
// least nine tenths of the multiprocessors. The sums of large tiles and the factors of three
// products would not fit in the registers.
template <conv_kind KIND, int PRODUCTS>
static void choose_tiles(struct device *device, const struct convolution *p, size_t B)
{
    const struct cuda_state *gpu = cuda_state(device);
    const size_t enough = static_cast<size_t>(gpu->multiprocessors) * 9 / 10;
    const bool large_fits = shared_bytes<KIND, large_tile> <= gpu->block_shared_max;
    if (p->O <= thin_tile::N)
        run_tiles<KIND, thin_tile, PRODUCTS>(device, *p, B);
    else if (PRODUCTS == 1 && large_fits && p->O > small_tile::N &&
             count_blocks<large_tile>(p, B) >= enough)
        run_tiles<KIND, large_tile, 1>(device, *p, B);
    else if (p->O > small_tile::N && count_blocks<medium_tile>(p, B) >= enough)
        run_tiles<KIND, medium_tile, PRODUCTS>(device, *p, B);
    else
        run_tiles<KIND, small_tile, PRODUCTS>(device, *p, B);
}

template <int PRODUCTS>
static void run_kind(struct device *device, const struct convolution *p, conv_kind kind, size_t B)
{
    if (kind == CONV_SAME)
        choose_tiles<CONV_SAME, PRODUCTS>(device, p, B);
    else if (kind == CONV_UP)
        choose_tiles<CONV_UP, PRODUCTS>(device, p, B);
    else // shared memory is too small for the window of a larger tile
        run_tiles<CONV_DOWN, small_tile, PRODUCTS>(device, *p, B);
}

static void run_plain(struct device *device, struct convolution p, conv_kind kind, size_t B)
{
    p.tiles = divide_up(p.out_H * p.out_W, PLAIN_TILE);
    p.channel_tiles = divide_up(p.O, PLAIN_TILE);
    RUN_KERNEL(device, convolve_plain, static_cast<unsigned>(B * p.tiles * p.channel_tiles),
               THREADS, 0, p, kind);
}

void CUDA_FN(conv3x3)(struct device *device, act *y, const act *x, const act *w, const act *b,
                      const act *sum, enum conv_kind kind, size_t B, size_t H, size_t W, size_t I,
                      size_t O)
{
    const size_t out_H = kind == CONV_DOWN ? H / 2 : kind == CONV_UP ? 2 * H : H;
    const size_t out_W = kind == CONV_DOWN ? W / 2 : kind == CONV_UP ? 2 * W : W;
    struct convolution p = {};
    p.y = reals(y);
    p.x = reals(x);
    p.w = reals(w);
    p.b = reals(b);
    p.sum = sum ? reals(sum) : nullptr;
    p.H = static_cast<int>(H);
    p.W = static_cast<int>(W);
    p.I = static_cast<int>(I);
    p.O = static_cast<int>(O);
    p.out_H = static_cast<int>(out_H);
    p.out_W = static_cast<int>(out_W);
    p.wide = can_be_wide(O, PACK, p.y, p.sum);
    if (B * out_H * out_W * O == 0)
        return;
    if (!can_be_wide(I, PACK, p.x, p.w))
        run_plain(device, p, kind, B);
#if CUDA_BITS == 32
    else if (!cuda_state(device)->tf32)
        run_kind<3>(device, &p, kind, B);
#endif
    else
        run_kind<1>(device, &p, kind, B);
}
