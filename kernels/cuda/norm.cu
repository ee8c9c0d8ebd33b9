// LayerNorm with modulation, the gated residual before it, and their gradients.
// SPDX-License-Identifier: MIT
//
// Everything is bound by memory: about 20 operations an element, of which 4 to 12 bytes are moved
// in bfloat16. Forward reads x (and branch) and writes y (and sum) once: a warp holds a row in
// registers, computes the mean and then the variance from there, and finds the modulation in L1, as
// the warps of a block work on the same sample. Backward reads dy, x, dsum (and branch) and writes
// dx (and dbranch) once: a block goes through a chunk of one sample's rows, each thread in its own
// PACK columns, so that sums over rows stay in registers; sums over columns take one barrier for
// every ROWS_IN_FLIGHT rows. The sums of the chunks go to memory, and a small kernel adds them in a
// fixed order. If rows can't be loaded in whole vectors, or are very wide, plain kernels do the
// same with a block for each row. Formulas: kernels/ref/norm.c.
#include "kernels/cuda/vector.h"

constexpr float EPS = 1e-6f;

struct norm_forward {
    real *sum, *y;
    float *mean, *rstd;
    const real *x, *branch, *gate, *shift, *scale;
    size_t stride, B, T, D;
};

// The vector at `from`, or zeros if it is not there.
static __device__ __forceinline__ vector<real, PACK> load_or_zero(const real *from, bool there)
{
    return there ? load_whole<PACK>(from) : vector<real, PACK>{};
}

// Makes the compiler unpack a vector again at its next use. Otherwise the unpacked floats would
// stay in registers, twice as many, between two uses.
template <class S> static __device__ __forceinline__ void keep_packed(vector<S, PACK> &x)
{
    if constexpr (sizeof(S) == 2)
        for (unsigned &v : x.v)
            asm volatile("" : "+r"(v));
}

constexpr int BLOCK_WARPS = 8; // each takes a row
constexpr int COUNT_UNIT = 8 / PACK, COUNT_MAX = 8 * COUNT_UNIT;

// A lane holds COUNT vectors of PACK columns, 32 PACK columns apart. Only the last COUNT_UNIT of
// them may be past the end of the row.
static __device__ __forceinline__ size_t column_of(unsigned i)
{
    return (i * 32 + threadIdx.x % 32) * PACK;
}
template <int COUNT> static __device__ __forceinline__ bool is_inside(unsigned i, size_t D)
{
    return i + COUNT_UNIT < COUNT || column_of(i) < D;
}
template <int COUNT>
static __device__ __forceinline__ void load_row(vector<real, PACK> (&to)[COUNT], const real *from,
                                                size_t D)
{
    for (unsigned i = 0; i < COUNT; i++)
        to[i] = load_or_zero(from + column_of(i), is_inside<COUNT>(i, D));
}
template <int COUNT>
static __device__ __forceinline__ void store_row(real *to, const vector<real, PACK> (&from)[COUNT],
                                                 size_t D)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (is_inside<COUNT>(i, D))
            *reinterpret_cast<vector<real, PACK> *>(to + column_of(i)) = from[i];
}

// All loads of a row are issued before the first is waited for.
template <int COUNT, bool GATED>
static __global__ void __launch_bounds__(32 * BLOCK_WARPS) norm_rows(struct norm_forward p)
{
    const size_t D = p.D, t = blockIdx.x * static_cast<size_t>(BLOCK_WARPS) + threadIdx.x / 32;
    if (t >= p.T)
        return;
    for (size_t b = blockIdx.y; b < p.B; b += gridDim.y) {
        const size_t row = b * p.T + t, at = b * p.stride;
        vector<real, PACK> x[COUNT], shift[COUNT], scale[COUNT];
        float v[PACK], addend[PACK], factor[PACK], total = 0, squares = 0;
        load_row(x, p.x + row * D, D);
        if constexpr (GATED) {
            // The norm is of the rounded sum, because the backward pass reads that.
            vector<real, PACK> branch[COUNT], gate[COUNT];
            load_row(branch, p.branch + row * D, D);
            load_row(gate, p.gate + at, D);
            for (unsigned i = 0; i < COUNT; i++) {
                unpack(v, x[i]);
                unpack(addend, branch[i]);
                unpack(factor, gate[i]);
                for (unsigned k = 0; k < PACK; k++)
                    v[k] += factor[k] * addend[k];
                pack_floats(x[i], v);
            }
            store_row(p.sum + row * D, x, D);
        }
        load_row(shift, p.shift + at, D);
        load_row(scale, p.scale + at, D);
        for (unsigned i = 0; i < COUNT; i++) {
            keep_packed(x[i]);
            unpack(v, x[i]);
            for (unsigned k = 0; k < PACK; k++)
                total += v[k];
        }
        const float mean = warp_sum(total) / static_cast<float>(D);
        for (unsigned i = 0; i < COUNT; i++) {
            keep_packed(x[i]);
            unpack(v, x[i]);
            for (unsigned k = 0; k < PACK; k++)
                squares += is_inside<COUNT>(i, D) ? (v[k] - mean) * (v[k] - mean) : 0;
        }
        const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(D) + EPS);
        for (unsigned i = 0; i < COUNT; i++) {
            keep_packed(x[i]);
            unpack(v, x[i]);
            unpack(addend, shift[i]);
            unpack(factor, scale[i]);
            for (unsigned k = 0; k < PACK; k++)
                v[k] = (v[k] - mean) * rstd * (1 + factor[k]) + addend[k];
            pack_floats(x[i], v);
        }
        store_row(p.y + row * D, x, D);
        if (p.mean && threadIdx.x % 32 == 0)
            p.mean[row] = mean, p.rstd[row] = rstd;
    }
}

// For any row length: a block reads its row three times.
template <bool GATED>
static __global__ void __launch_bounds__(THREADS) norm_plain(struct norm_forward p)
{
    const size_t D = p.D;
    for (size_t b = blockIdx.y; b < p.B; b += gridDim.y) {
        const size_t row = b * p.T + blockIdx.x, at = b * p.stride;
        const real *in = (GATED ? p.sum : p.x) + row * D;
        float total = 0, squares = 0;
        for (size_t d = threadIdx.x; d < D; d += THREADS) {
            if constexpr (GATED)
                p.sum[row * D + d] =
                    to_real(to_float(p.x[row * D + d]) +
                            to_float(p.gate[at + d]) * to_float(p.branch[row * D + d]));
            total += to_float(in[d]);
        }
        const float mean = block_sum(total) / static_cast<float>(D);
        for (size_t d = threadIdx.x; d < D; d += THREADS)
            squares += (to_float(in[d]) - mean) * (to_float(in[d]) - mean);
        const float rstd = rsqrtf(block_sum(squares) / static_cast<float>(D) + EPS);
        for (size_t d = threadIdx.x; d < D; d += THREADS)
            p.y[row * D + d] =
                to_real((to_float(in[d]) - mean) * rstd * (1 + to_float(p.scale[at + d])) +
                        to_float(p.shift[at + d]));
        if (p.mean && threadIdx.x == 0)
            p.mean[row] = mean, p.rstd[row] = rstd;
    }
}

template <bool GATED> static void (*choose_norm_rows(size_t D))(struct norm_forward)
{
    switch (blocks_for(D, 32 * PACK * COUNT_UNIT)) {
    case 1:
        return norm_rows<COUNT_UNIT, GATED>;
    case 2:
        return norm_rows<2 * COUNT_UNIT, GATED>;
    case 3:
        return norm_rows<3 * COUNT_UNIT, GATED>;
    case 4:
        return norm_rows<4 * COUNT_UNIT, GATED>;
    case 5:
        return norm_rows<5 * COUNT_UNIT, GATED>;
    case 6:
        return norm_rows<6 * COUNT_UNIT, GATED>;
    case 7:
        return norm_rows<7 * COUNT_UNIT, GATED>;
    default:
        return norm_rows<COUNT_MAX, GATED>;
    }
}

template <bool GATED> static void run_forward(struct device *device, const struct norm_forward *p)
{
    const size_t D = p->D;
    if (p->B == 0 || p->T == 0 || D == 0)
        return;
    const unsigned y = static_cast<unsigned>(p->B < 65535 ? p->B : 65535);
    if (D <= 32 * PACK * COUNT_MAX && can_be_wide(D, PACK, p->sum, p->y, p->x, p->branch) &&
        can_be_wide(p->stride, PACK, p->gate, p->shift, p->scale)) {
        const auto norm_modulate = choose_norm_rows<GATED>(D);
        RUN_KERNEL(device, norm_modulate, dim3(blocks_for(p->T, BLOCK_WARPS), y), 32 * BLOCK_WARPS,
                   0, *p);
    } else {
        const auto norm_modulate = norm_plain<GATED>;
        RUN_KERNEL(device, norm_modulate, dim3(static_cast<unsigned>(p->T), y), THREADS, 0, *p);
    }
}

void CUDA_FN(norm_modulate)(struct device *device, act *y, float *mean, float *rstd, const act *x,
                            struct modulation m, size_t B, size_t T, size_t D)
{
    struct norm_forward p = {};
    p.y = reals(y), p.mean = mean, p.rstd = rstd, p.x = reals(x);
    p.shift = reals(m.shift), p.scale = reals(m.scale), p.stride = m.stride;
    p.B = B, p.T = T, p.D = D;
    run_forward<false>(device, &p);
}

void CUDA_FN(gate_residual_norm_modulate)(struct device *device, act *sum, act *y, float *mean,
                                          float *rstd, const act *x, const act *branch,
                                          struct modulation m, size_t B, size_t T, size_t D)
{
    struct norm_forward p = {};
    p.sum = reals(sum), p.y = reals(y), p.mean = mean, p.rstd = rstd;
    p.x = reals(x), p.branch = reals(branch), p.gate = reals(m.gate);
    p.shift = reals(m.shift), p.scale = reals(m.scale), p.stride = m.stride;
    p.B = B, p.T = T, p.D = D;
    run_forward<true>(device, &p);
}

// The parameters of both backward operations; without a branch there is no gate.
struct norm_backward {
    real *dx, *dbranch, *sums[3]; // sums: dshift, dscale, dgate
    const real *dy, *dsum, *x;
    const float *mean, *rstd;
    const real *branch, *gate, *scale;
    size_t stride, dstride, B, T, D;
    float *chunk_sums; // (B,chunks,3,D): sums over the rows of a chunk
    unsigned chunk, chunks;
};

constexpr int ROWS_IN_FLIGHT = 2;         // loaded at once
constexpr int BACKWARD_THREADS_MAX = 640; // leaves 96 registers for each thread
constexpr int BLOCKS_TO_FILL_GPU = 1024;  // keep even a large GPU busy

template <bool GATED>
static __global__ void __launch_bounds__(BACKWARD_THREADS_MAX)
    backward_chunk(struct norm_backward p)
{
    SHARED(float, warp_sums, [2][BACKWARD_THREADS_MAX / 32][2 * ROWS_IN_FLIGHT]);
    const unsigned warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const size_t D = p.D, d = threadIdx.x * PACK, b = blockIdx.x / p.chunks;
    const size_t begin = b * p.T + blockIdx.x % p.chunks * p.chunk;
    const size_t end = min(begin + p.chunk, (b + 1) * p.T);
    const bool inside = d < D;
    const float one_D = 1 / static_cast<float>(D);
    float shift_sum[PACK] = {}, scale_sum[PACK] = {}, gate_sum[PACK] = {};
    const vector<real, PACK> scale = load_or_zero(p.scale + b * p.stride + d, inside);
    const vector<real, PACK> gate = load_or_zero(p.gate + b * p.stride + d, GATED && inside);
    unsigned buffer = 0; // two buffers for the warps' sums make one barrier enough
    for (size_t row = begin; row < end; row += ROWS_IN_FLIGHT, buffer ^= 1) {
        vector<real, PACK> dy[ROWS_IN_FLIGHT], x[ROWS_IN_FLIGHT], dsum[ROWS_IN_FLIGHT],
            branch[ROWS_IN_FLIGHT];
        float rstd[ROWS_IN_FLIGHT], offset[ROWS_IN_FLIGHT],
            sums[2 * ROWS_IN_FLIGHT] = {}; // n = rstd x + offset
        for (int i = 0; i < ROWS_IN_FLIGHT; i++) {
            const bool there = inside && row + i < end;
            const size_t at = (row + i) * D + d;
            dy[i] = load_or_zero(p.dy + at, there);
            x[i] = load_or_zero(p.x + at, there);
            dsum[i] = load_or_zero(p.dsum + at, there && p.dsum);
            branch[i] = load_or_zero(p.branch + at, GATED && there);
            rstd[i] = there ? p.rstd[row + i] : 0;
            offset[i] = there ? -p.mean[row + i] * rstd[i] : 0;
        }
        for (int i = 0; i < ROWS_IN_FLIGHT; i++) {
            float g[PACK], n[PACK], factor[PACK];
            unpack(g, dy[i]);
            unpack(n, x[i]);
            unpack(factor, scale);
            for (unsigned k = 0; k < PACK; k++) {
                n[k] = rstd[i] * n[k] + offset[i];
                shift_sum[k] += g[k];
                scale_sum[k] += g[k] * n[k];
                const float dn = g[k] + g[k] * factor[k];
                sums[2 * i] += dn;
                sums[2 * i + 1] += dn * n[k];
            }
        }
        for (int i = 0; i < 2 * ROWS_IN_FLIGHT; i++)
            sums[i] = warp_sum(sums[i]);
        if (threadIdx.x % 32 == 0)
            for (int i = 0; i < 2 * ROWS_IN_FLIGHT; i++)
                warp_sums[buffer][warp][i] = sums[i];
        __syncthreads();
        for (int i = 0; i < 2 * ROWS_IN_FLIGHT; i++)
            sums[i] = 0;
#pragma unroll 1 // unrolling would spill registers
        for (unsigned w = 0; w < warps; w++)
            for (int i = 0; i < 2 * ROWS_IN_FLIGHT; i++)
                sums[i] += warp_sums[buffer][w][i];
        for (int i = 0; i < ROWS_IN_FLIGHT; i++) {
            const float dn_mean = sums[2 * i] * one_D, dn_n_mean = sums[2 * i + 1] * one_D;
            const bool there = inside && row + i < end;
            const size_t at = (row + i) * D + d;
            float g[PACK], n[PACK], factor[PACK], dx[PACK];
            keep_packed(dy[i]);
            keep_packed(x[i]);
            unpack(g, dy[i]);
            unpack(n, x[i]);
            unpack(factor, scale);
            unpack(dx, dsum[i]);
            for (unsigned k = 0; k < PACK; k++) {
                n[k] = rstd[i] * n[k] + offset[i];
                dx[k] += rstd[i] * (g[k] + g[k] * factor[k] - dn_mean - n[k] * dn_n_mean);
            }
            if (there)
                store(p.dx + at, dx);
            if constexpr (GATED) {
                unpack(g, branch[i]);
                unpack(factor, gate);
                for (unsigned k = 0; k < PACK; k++) {
                    gate_sum[k] += g[k] * dx[k];
                    dx[k] *= factor[k];
                }
                if (there)
                    store(p.dbranch + at, dx);
            }
        }
    }
    if (!inside)
        return;
    float *to = p.chunk_sums + blockIdx.x * 3 * D + d;
    store(to, shift_sum);
    store(to + D, scale_sum);
    if constexpr (GATED)
        store(to + 2 * D, gate_sum);
}

// Adds the sums of the chunks in order. blockIdx.z selects one of the three sums.
static __global__ void __launch_bounds__(THREADS) add_chunk_sums(struct norm_backward p)
{
    const size_t d = thread_place(1);
    if (d >= p.D)
        return;
    for (size_t b = blockIdx.y; b < p.B; b += gridDim.y) {
        const float *from = p.chunk_sums + (b * p.chunks * 3 + blockIdx.z) * p.D + d;
        float sum = 0;
#pragma unroll 4
        for (size_t c = 0; c < p.chunks; c++)
            sum += from[c * 3 * p.D];
        p.sums[blockIdx.z][b * p.dstride + d] = to_real(sum);
    }
}

// dx and dbranch for any row length: a block reads its row twice.
template <bool GATED>
static __global__ void __launch_bounds__(THREADS) backward_plain_rows(struct norm_backward p)
{
    const size_t D = p.D;
    for (size_t b = blockIdx.y; b < p.B; b += gridDim.y) {
        const size_t row = b * p.T + blockIdx.x;
        const float mean = p.mean[row], rstd = p.rstd[row];
        const real *dy = p.dy + row * D, *x = p.x + row * D, *scale = p.scale + b * p.stride;
        float dn_sum = 0, dn_n_sum = 0;
        for (size_t d = threadIdx.x; d < D; d += THREADS) {
            const float dn = to_float(dy[d]) * (1 + to_float(scale[d]));
            dn_sum += dn;
            dn_n_sum += dn * (to_float(x[d]) - mean) * rstd;
        }
        const float dn_mean = block_sum(dn_sum) / static_cast<float>(D);
        const float dn_n_mean = block_sum(dn_n_sum) / static_cast<float>(D);
        for (size_t d = threadIdx.x; d < D; d += THREADS) {
            const float n = (to_float(x[d]) - mean) * rstd;
            const float dn = to_float(dy[d]) * (1 + to_float(scale[d]));
            const float dx = (p.dsum ? to_float(p.dsum[row * D + d]) : 0) +
                             rstd * (dn - dn_mean - n * dn_n_mean);
            p.dx[row * D + d] = to_real(dx);
            if constexpr (GATED)
                p.dbranch[row * D + d] = to_real(to_float(p.gate[b * p.stride + d]) * dx);
        }
    }
}

// The sums over rows, after backward_plain_rows.
template <bool GATED>
static __global__ void __launch_bounds__(THREADS) backward_plain_sums(struct norm_backward p)
{
    const size_t d = thread_place(1);
    if (d >= p.D)
        return;
    for (size_t b = blockIdx.y; b < p.B; b += gridDim.y) {
        float sums[3] = {};
        for (size_t row = b * p.T; row < (b + 1) * p.T; row++) {
            const float dy = to_float(p.dy[row * p.D + d]);
            sums[0] += dy;
            sums[1] += dy * (to_float(p.x[row * p.D + d]) - p.mean[row]) * p.rstd[row];
            if constexpr (GATED)
                sums[2] += to_float(p.branch[row * p.D + d]) * to_float(p.dx[row * p.D + d]);
        }
        for (int i = 0; i < (GATED ? 3 : 2); i++)
            p.sums[i][b * p.dstride + d] = to_real(sums[i]);
    }
}

template <bool GATED>
static void run_plain_backward(struct device *device, const struct norm_backward *p)
{
    const dim3 columns = sample_grid(p->B, p->D, 1);
    const auto norm_backward = backward_plain_rows<GATED>;
    const auto norm_backward_sums = backward_plain_sums<GATED>;
    if (p->T > 0)
        RUN_KERNEL(device, norm_backward, dim3(static_cast<unsigned>(p->T), columns.y), THREADS, 0,
                   *p);
    RUN_KERNEL(device, norm_backward_sums, columns, THREADS, 0, *p);
}

template <bool GATED> static void run_backward(struct device *device, struct norm_backward *p)
{
    const size_t B = p->B, T = p->T, D = p->D,
                 rows = B * T / BLOCKS_TO_FILL_GPU / ROWS_IN_FLIGHT * ROWS_IN_FLIGHT;
    if (B == 0 || D == 0)
        return;
    if (T == 0 || D > BACKWARD_THREADS_MAX * PACK ||
        !can_be_wide(D, PACK, p->dx, p->dbranch, p->dy, p->dsum, p->x, p->branch) ||
        !can_be_wide(p->stride, PACK, p->gate, p->scale)) {
        run_plain_backward<GATED>(device, p);
        return;
    }
    p->chunk = static_cast<unsigned>(rows < 8 ? 8 : rows > 64 ? 64 : rows);
    p->chunks = blocks_for(T, p->chunk);
    p->chunk_sums =
        static_cast<float *>(cuda_scratch(device, B * p->chunks * 3 * D * sizeof(float)));
    if (!p->chunk_sums)
        return;
    const unsigned threads = blocks_for(D, 32 * PACK) * 32;
    const auto norm_backward = backward_chunk<GATED>;
    dim3 columns = sample_grid(B, D, 1);
    columns.z = GATED ? 3 : 2;
    RUN_KERNEL(device, norm_backward, static_cast<unsigned>(B * p->chunks), threads, 0, *p);
    RUN_KERNEL(device, add_chunk_sums, columns, THREADS, 0, *p);
}

void CUDA_FN(norm_modulate_backward)(struct device *device, act *dx, struct modulation dm,
                                     const act *dy, const act *dsum, const act *x,
                                     const float *mean, const float *rstd, struct modulation m,
                                     size_t B, size_t T, size_t D)
{
    struct norm_backward p = {};
    p.dx = reals(dx), p.sums[0] = reals(dm.shift), p.sums[1] = reals(dm.scale);
    p.dy = reals(dy), p.dsum = dsum ? reals(dsum) : nullptr, p.x = reals(x);
    p.mean = mean, p.rstd = rstd, p.scale = reals(m.scale), p.stride = m.stride,
    p.dstride = dm.stride;
    p.B = B, p.T = T, p.D = D;
    run_backward<false>(device, &p);
}

void CUDA_FN(gate_residual_norm_modulate_backward)(struct device *device, act *dx, act *dbranch,
                                                   struct modulation dm, const act *dy,
                                                   const act *dsum, const act *sum,
                                                   const float *mean, const float *rstd,
                                                   const act *branch, struct modulation m, size_t B,
                                                   size_t T, size_t D)
{
    struct norm_backward p = {};
    p.dx = reals(dx), p.dbranch = reals(dbranch);
    p.sums[0] = reals(dm.shift), p.sums[1] = reals(dm.scale), p.sums[2] = reals(dm.gate);
    p.dy = reals(dy), p.dsum = dsum ? reals(dsum) : nullptr, p.x = reals(sum);
    p.mean = mean, p.rstd = rstd, p.branch = reals(branch), p.gate = reals(m.gate);
    p.scale = reals(m.scale), p.stride = m.stride, p.dstride = dm.stride;
    p.B = B, p.T = T, p.D = D;
    run_backward<true>(device, &p);
}
