// GroupNorm and the SiLU after it. SPDX-License-Identifier: MIT
//
// x is read twice and y written once: 6 bytes (bf16) an element, and some ten operations. One pass
// sums, a second applies; between them a small kernel makes of each group's sums a factor and an
// offset for each channel. What is added up, and in which order, depends on n and C alone.
//
// A block of both passes has 16 threads across (16 bytes each: 256 of a row, in whole lines) by 16
// rows down, and each thread ROWS rows, which it loads at once. Sums are those of channels, so that
// any group size will do: of squares about the chunk's own mean, taken from registers.
#include "kernels/cuda/vector.h"

#define EPS    1e-6f
#define ACROSS 16
#define DOWN   (THREADS / ACROSS)
#define ROWS   8             // of a thread
#define CHUNK  (ROWS * DOWN) // rows of a block

// Of a channel in one chunk; squares are those of what is left without its mean there.
struct moments {
    float sum, squares;
};

struct norm {
    real *y; // may be x
    const real *x, *w, *b;
    struct moments *moments; // (B,chunks,C)
    float *factor, *offset;  // (B,C): y = factor x + offset
    size_t B, n, C, G;
    unsigned chunks, slabs; // of a sample; of a row
};

// What a thread has of x: from element `at`, row `row` and channel `channel` on.
struct place {
    size_t sample, chunk, row, channel, at;
    bool inside;
};

template <int V> static __device__ __forceinline__ struct place find_place(const struct norm &p)
{
    struct place t;
    t.channel = (static_cast<size_t>(blockIdx.x % p.slabs) * ACROSS + threadIdx.x % ACROSS) * V;
    t.chunk = blockIdx.x / p.slabs % p.chunks;
    t.sample = blockIdx.x / p.slabs / p.chunks;
    t.row = t.chunk * CHUNK + threadIdx.x / ACROSS;
    t.at = (t.sample * p.n + t.row) * p.C + t.channel;
    t.inside = t.channel < p.C;
    return t;
}

// Row i of the thread is DOWN i rows on.
template <int V>
static __device__ __forceinline__ bool has_row(const struct norm &p, const struct place &t, int i)
{
    return t.inside && t.row + i * DOWN < p.n;
}

template <int V>
static __device__ __forceinline__ void load_rows(vector<real, V> (&rows)[ROWS],
                                                 const struct norm &p, const struct place &t)
{
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (has_row<V>(p, t, i))
            rows[i] = load_whole<V>(p.x + t.at + i * DOWN * p.C);
}

// The sums of a block's columns, to all of each column's threads.
template <int V>
static __device__ __forceinline__ void sum_down(float (&sums)[V],
                                                float (&work)[DOWN][ACROSS * V + 1])
{
    const int across = threadIdx.x % ACROSS * V, down = threadIdx.x / ACROSS;
    __syncthreads();
#pragma unroll
    for (int v = 0; v < V; v++)
        work[down][across + v] = sums[v];
    __syncthreads();
    for (int c = threadIdx.x; c < ACROSS * V; c += THREADS) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
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
    find_moments(const __grid_constant__ struct norm p)
{
    SHARED(float, work, [DOWN][ACROSS * V + 1]);
    const struct place t = find_place<V>(p);
    vector<real, V> rows[ROWS];
    load_rows(rows, p, t);
    const size_t left = p.n - t.chunk * CHUNK;
    const float count = left < CHUNK ? left : CHUNK;
    float sums[V] = {}, squares[V] = {}, x[V];
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (has_row<V>(p, t, i)) {
            unpack(x, rows[i]);
            for (int v = 0; v < V; v++)
                sums[v] += x[v];
        }
    sum_down(sums, work);
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (has_row<V>(p, t, i)) {
            unpack(x, rows[i]);
            for (int v = 0; v < V; v++) {
                const float away = x[v] - sums[v] / count;
                squares[v] += away * away;
            }
        }
    sum_down(squares, work);
    if (t.inside && threadIdx.x < ACROSS)
        for (int v = 0; v < V; v++)
            p.moments[(t.sample * p.chunks + t.chunk) * p.C + t.channel + v] = {sums[v],
                                                                                squares[v]};
}

// One block for each group of each sample.
static __global__ void __launch_bounds__(THREADS)
    combine_moments(const __grid_constant__ struct norm p)
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
        const size_t left = p.n - i / width * CHUNK;
        const float rows = left < CHUNK ? left : CHUNK, away = part.sum / rows - mean;
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
static __global__ void __launch_bounds__(THREADS) normalise(const __grid_constant__ struct norm p)
{
    const struct place t = find_place<V>(p);
    vector<real, V> rows[ROWS];
    load_rows(rows, p, t);
    float factor[V] = {}, offset[V] = {}, x[V];
    if (t.inside) {
        load(factor, p.factor + t.sample * p.C + t.channel);
        load(offset, p.offset + t.sample * p.C + t.channel);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (has_row<V>(p, t, i)) {
            unpack(x, rows[i]);
            for (int v = 0; v < V; v++) {
                x[v] = x[v] * factor[v] + offset[v];
                if (SILU)
                    x[v] = __fdividef(x[v], 1 + __expf(-x[v]));
            }
            store(p.y + t.at + i * DOWN * p.C, x);
        }
}

template <int V> static void run_norm(struct device *device, struct norm p, bool silu)
{
    p.slabs = blocks_for(p.C, ACROSS * V);
    const unsigned blocks = static_cast<unsigned>(p.B * p.chunks * p.slabs);
    RUN_KERNEL(device, find_moments<V>, blocks, THREADS, 0, p);
    RUN_KERNEL(device, combine_moments, static_cast<unsigned>(p.B * p.G), THREADS, 0, p);
    if (silu)
        RUN_KERNEL(device, (normalise<V, true>), blocks, THREADS, 0, p);
    else
        RUN_KERNEL(device, (normalise<V, false>), blocks, THREADS, 0, p);
}

void CUDA_FN(group_norm)(struct device *device, act *y, const act *x, const act *w, const act *b,
                         bool silu, size_t B, size_t n, size_t C, size_t G)
{
    if (B * n * C == 0)
        return;
    struct norm p = {};
    p.y = reals(y);
    p.x = reals(x);
    p.w = reals(w);
    p.b = reals(b);
    p.B = B;
    p.n = n;
    p.C = C;
    p.G = G;
    p.chunks = blocks_for(n, CHUNK);
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
