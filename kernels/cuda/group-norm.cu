// GroupNorm, optionally followed by SiLU. SPDX-License-Identifier: MIT
//
// x is read twice and y written once: 6 bytes (bf16) and about ten operations an element. One pass
// computes sums, a second normalizes; between them a small kernel turns the sums of each group into
// a factor and an offset for each channel. The order of all sums depends on n and C alone.
//
// A block of both passes has 16 x 16 threads: a row of them takes 256 bytes of a row of x, in whole
// cache lines, and each thread loads THREAD_ROWS rows at once. Sums are kept for each channel, so
// that groups may have any size; squares are about the mean of the block's rows, from registers.
#include "kernels/cuda/vector.h"

constexpr float EPS = 1e-6f;
constexpr int THREADS_X = 16, THREADS_Y = THREADS / THREADS_X;
constexpr int THREAD_ROWS = 8, BLOCK_ROWS = THREAD_ROWS * THREADS_Y; // rows of a thread, of a block

// The moments of one channel in one chunk of BLOCK_ROWS rows; squares is the sum of the squared
// deviations from the chunk's mean.
struct moments {
    float sum, squares;
};

struct group_norm {
    real *y; // may be x
    const real *x, *w, *b;
    struct moments *moments; // (B,chunks,C)
    float *factor, *offset;  // (B,C): y = factor x + offset
    size_t B, n, C, G;
    unsigned chunks, column_blocks; // blocks of a sample's rows; blocks of a row
};

// The part of x that a thread takes begins at element `at`, in row `row` and channel `channel`.
struct thread_tile {
    size_t sample, chunk, row, channel, at;
    bool inside;
};

template <int V>
static __device__ __forceinline__ struct thread_tile find_thread_tile(const struct group_norm &p)
{
    struct thread_tile t;
    t.channel =
        (static_cast<size_t>(blockIdx.x % p.column_blocks) * THREADS_X + threadIdx.x % THREADS_X) *
        V;
    t.chunk = blockIdx.x / p.column_blocks % p.chunks;
    t.sample = blockIdx.x / p.column_blocks / p.chunks;
    t.row = t.chunk * BLOCK_ROWS + threadIdx.x / THREADS_X;
    t.at = (t.sample * p.n + t.row) * p.C + t.channel;
    t.inside = t.channel < p.C;
    return t;
}

// Row i of a thread is THREADS_Y i rows further on.
template <int V>
static __device__ __forceinline__ bool has_row(const struct group_norm &p,
                                               const struct thread_tile &t, int i)
{
    return t.inside && t.row + i * THREADS_Y < p.n;
}

template <int V>
static __device__ __forceinline__ void load_rows(vector<real, V> (&rows)[THREAD_ROWS],
                                                 const struct group_norm &p,
                                                 const struct thread_tile &t)
{
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++)
        if (has_row<V>(p, t, i))
            rows[i] = load_whole<V>(p.x + t.at + i * THREADS_Y * p.C);
}

// Sums each column of a block; all threads of the column get the sum.
template <int V>
static __device__ __forceinline__ void sum_columns(float (&sums)[V],
                                                   float (&work)[THREADS_Y][THREADS_X * V + 1])
{
    const int across = threadIdx.x % THREADS_X * V, down = threadIdx.x / THREADS_X;
    __syncthreads();
#pragma unroll
    for (int v = 0; v < V; v++)
        work[down][across + v] = sums[v];
    __syncthreads();
    for (int c = threadIdx.x; c < THREADS_X * V; c += THREADS) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < THREADS_Y; i++)
            sum += work[i][c];
        work[0][c] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int v = 0; v < V; v++)
        sums[v] = work[0][across + v];
}

template <int V>
static __global__ void __launch_bounds__(THREADS)
    find_moments(const __grid_constant__ struct group_norm p)
{
    SHARED(float, work, [THREADS_Y][THREADS_X * V + 1]);
    const struct thread_tile t = find_thread_tile<V>(p);
    vector<real, V> rows[THREAD_ROWS];
    load_rows(rows, p, t);
    const size_t left = p.n - t.chunk * BLOCK_ROWS;
    const float count = left < BLOCK_ROWS ? left : BLOCK_ROWS;
    float sums[V] = {}, squares[V] = {}, x[V];
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++)
        if (has_row<V>(p, t, i)) {
            unpack(x, rows[i]);
            for (int v = 0; v < V; v++)
                sums[v] += x[v];
        }
    sum_columns(sums, work);
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++)
        if (has_row<V>(p, t, i)) {
            unpack(x, rows[i]);
            for (int v = 0; v < V; v++) {
                const float away = x[v] - sums[v] / count;
                squares[v] += away * away;
            }
        }
    sum_columns(squares, work);
    if (t.inside && threadIdx.x < THREADS_X)
        for (int v = 0; v < V; v++)
            p.moments[(t.sample * p.chunks + t.chunk) * p.C + t.channel + v] = {sums[v],
                                                                                squares[v]};
}

// One block for each group of each sample.
static __global__ void __launch_bounds__(THREADS)
    combine_moments(const __grid_constant__ struct group_norm p)
{
    const size_t sample = blockIdx.x / p.G, width = p.C / p.G, first = blockIdx.x % p.G * width;
    const struct moments *m = p.moments + sample * p.chunks * p.C + first;
    const float count = static_cast<float>(p.n) * width;
    float sum = 0;
    for (size_t i = threadIdx.x; i < p.chunks * width; i += THREADS)
        sum += m[i / width * p.C + i % width].sum;
    const float mean = block_sum(sum) / count;
    float squares = 0;
    for (size_t i = threadIdx.x; i < p.chunks * width; i += THREADS) {
        const struct moments part = m[i / width * p.C + i % width];
        const size_t left = p.n - i / width * BLOCK_ROWS;
        const float rows = left < BLOCK_ROWS ? left : BLOCK_ROWS, away = part.sum / rows - mean;
        squares += part.squares + rows * away * away;
    }
    const float rstd = rsqrtf(block_sum(squares) / count + EPS);
    for (size_t c = first + threadIdx.x; c < first + width; c += THREADS) {
        const float factor = rstd * to_float(p.w[c]);
        p.factor[sample * p.C + c] = factor;
        p.offset[sample * p.C + c] = to_float(p.b[c]) - mean * factor;
    }
}

template <int V, bool SILU>
static __global__ void __launch_bounds__(THREADS)
    normalize(const __grid_constant__ struct group_norm p)
{
    const struct thread_tile t = find_thread_tile<V>(p);
    vector<real, V> rows[THREAD_ROWS];
    load_rows(rows, p, t);
    float factor[V] = {}, offset[V] = {}, x[V];
    if (t.inside) {
        load(factor, p.factor + t.sample * p.C + t.channel);
        load(offset, p.offset + t.sample * p.C + t.channel);
    }
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++)
        if (has_row<V>(p, t, i)) {
            unpack(x, rows[i]);
            for (int v = 0; v < V; v++) {
                x[v] = x[v] * factor[v] + offset[v];
                if (SILU)
                    x[v] = __fdividef(x[v], 1 + __expf(-x[v]));
            }
            store(p.y + t.at + i * THREADS_Y * p.C, x);
        }
}

template <int V> static void run_norm(struct device *device, struct group_norm p, bool silu)
{
    p.column_blocks = blocks_for(p.C, THREADS_X * V);
    const unsigned blocks = static_cast<unsigned>(p.B * p.chunks * p.column_blocks);
    RUN_KERNEL(device, find_moments<V>, blocks, THREADS, 0, p);
    RUN_KERNEL(device, combine_moments, static_cast<unsigned>(p.B * p.G), THREADS, 0, p);
    if (silu)
        RUN_KERNEL(device, (normalize<V, true>), blocks, THREADS, 0, p);
    else
        RUN_KERNEL(device, (normalize<V, false>), blocks, THREADS, 0, p);
}

void CUDA_FN(group_norm)(struct device *device, act *y, const act *x, const act *w, const act *b,
                         bool silu, size_t B, size_t n, size_t C, size_t G)
{
    if (B * n * C == 0)
        return;
    struct group_norm p = {};
    p.y = reals(y);
    p.x = reals(x);
    p.w = reals(w);
    p.b = reals(b);
    p.B = B;
    p.n = n;
    p.C = C;
    p.G = G;
    p.chunks = blocks_for(n, BLOCK_ROWS);
    p.factor = static_cast<float *>(
        cuda_scratch(device, 2 * B * C * sizeof *p.factor + B * p.chunks * C * sizeof *p.moments));
    if (!p.factor)
        return;
    p.offset = p.factor + B * C;
    p.moments = reinterpret_cast<struct moments *>(p.offset + B * C);
    if (can_be_wide(C, PACK, p.x, p.y))
        run_norm<PACK>(device, p, silu);
    else
        run_norm<1>(device, p, silu);
}
