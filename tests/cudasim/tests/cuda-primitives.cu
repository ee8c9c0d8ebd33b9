// What kernels/cuda/cuda.h and the CUDA subset of the plug-in promise, in the simulator as on a
// GPU. SPDX-License-Identifier: MIT
#include "kernels/cuda/cuda.h"

#include <math.h>
#include <string.h>

#include "tests/tap.h"

constexpr unsigned full_warp = 0xffffffff;

// Device memory that holds n elements of type T, seen by both sides through get and put.
template <class T> struct array {
    T *at = nullptr;
    size_t n;
    explicit array(size_t count) : n(count)
    {
        if (cudaMalloc(&at, n * sizeof(T)) != cudaSuccess)
            abort();
    }
    array(const array &) = delete;
    ~array()
    {
        cudaFree(at);
    }
    void put(const T *from)
    {
        if (cudaMemcpy(at, from, n * sizeof(T), cudaMemcpyHostToDevice) != cudaSuccess)
            abort();
    }
    void get(T *to) const
    {
        if (cudaMemcpy(to, at, n * sizeof(T), cudaMemcpyDeviceToHost) != cudaSuccess)
            abort();
    }
};

static bool good(cudaError_t error)
{
    if (error != cudaSuccess)
        diag("%s", cudaGetErrorString(error));
    return error == cudaSuccess;
}

// Numbers that bf16 and tf32 represent exactly and whose sums are exact in float32.
static float small_number(unsigned i)
{
    return static_cast<float>(static_cast<int>(i * 2654435761u >> 16 & 31) - 15) / 8;
}

__global__ void shuffles(int *out)
{
    const int lane = threadIdx.x;
    int sum = lane, highest = lane * 7 % 32, scan = 1;
    for (int d = 16; d; d /= 2) {
        sum += __shfl_down_sync(full_warp, sum, d);
        highest = max(highest, __shfl_xor_sync(full_warp, highest, d));
    }
    for (int d = 1; d < 32; d *= 2) {
        const int below = __shfl_up_sync(full_warp, scan, d);
        scan += lane >= d ? below : 0;
    }
    int *row = out + lane * 8;
    row[0] = __shfl_sync(full_warp, sum, 0);
    row[1] = highest;
    row[2] = scan;
    row[3] = __shfl_sync(full_warp, lane, 3, 8);
    row[4] = static_cast<int>(__ballot_sync(full_warp, lane % 3 == 0));
    row[5] = __any_sync(full_warp, lane == 31) + 2 * __all_sync(full_warp, lane < 31);
    // Half a warp may shuffle by itself, and doubles go in one piece.
    row[6] = lane < 16 ? static_cast<int>(__shfl_xor_sync(0xffff, lane * 1.5, 1) * 2) : -1;
    __syncwarp();
    row[7] = __shfl_down_sync(full_warp, lane, 2, 8);
}

static void test_shuffles()
{
    array<int> out(256);
    int got[256];
    bool same = good(LAUNCH(shuffles, 1, 32, 0, 0, out.at));
    out.get(got);
    for (int i = 0; i < 32; i++) {
        const int *row = got + i * 8;
        same = same && row[0] == 496 && row[1] == 31 && row[2] == i + 1 &&
               row[3] == i / 8 * 8 + 3 && row[4] == 0x49249249 && row[5] == 1 &&
               row[6] == (i < 16 ? (i ^ 1) * 3 : -1) && row[7] == (i % 8 < 6 ? i + 2 : i);
    }
    ok(same, "shuffles and votes");
}

// The running sum of a block's 256 numbers, in place.
__device__ static float block_scan(float x)
{
    SHARED(float, sums, [8]);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int d = 1; d < 32; d *= 2) {
        const float below = __shfl_up_sync(full_warp, x, d);
        x += lane >= static_cast<unsigned>(d) ? below : 0;
    }
    if (lane == 31)
        sums[warp] = x;
    __syncthreads();
    for (unsigned w = 0; w < warp; w++)
        x += sums[w];
    __syncthreads();
    return x;
}
template <int SCALE> __global__ void __launch_bounds__(256) scan(float *x, size_t n)
{
    SHARED(float, carry, );
    if (threadIdx.x == 0)
        carry = 0;
    for (size_t i = threadIdx.x; i < n; i += blockDim.x) {
        __syncthreads();
        const float before = carry, sum = before + block_scan(x[i] * SCALE);
        x[i] = sum;
        if (threadIdx.x == 255)
            carry = sum;
    }
}

static void test_scan()
{
    constexpr size_t n = 2048;
    float host[n];
    for (size_t i = 0; i < n; i++)
        host[i] = static_cast<float>(i % 5);
    array<float> x(n);
    x.put(host);
    bool same = good(LAUNCH((scan<3>), 1, 256, 0, 0, x.at, n));
    float got[n], sum = 0;
    x.get(got);
    for (size_t i = 0; i < n; i++)
        same = same && got[i] == (sum += 3 * host[i]);
    ok(same, "a block's scan in shared memory");
}

// d (16,8) = a (16,16) b (16,8): b as it is, through ldmatrix_trans, and as its transpose bt.
__global__ void mma(float *d, const __nv_bfloat16 *a, const __nv_bfloat16 *b,
                    const __nv_bfloat16 *bt)
{
    SHARED(__nv_bfloat16, tile_a, [16][24]);
    SHARED(__nv_bfloat16, tile_b, [16][8]);
    SHARED(__nv_bfloat16, tile_bt, [8][24]);
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32)
        tile_a[i / 16][i % 16] = a[i];
    for (int i = lane; i < 128; i += 32) {
        tile_b[i / 8][i % 8] = b[i];
        tile_bt[i / 16][i % 16] = bt[i];
    }
    __syncwarp();
    unsigned fa[4], fb[2], low[1], high[1];
    ldmatrix(fa, &tile_a[lane % 16][lane / 16 * 8]);
    ldmatrix_trans(fb, &tile_b[lane % 16][0]);
    float plain[4] = {1, 1, 1, 1}, turned[4] = {};
    mma_bf16(plain, fa, fb[0], fb[1]);
    ldmatrix(low, &tile_bt[lane % 8][0]);
    ldmatrix(high, &tile_bt[lane % 8][8]);
    mma_bf16(turned, fa, low[0], high[0]);
    for (int i = 0; i < 4; i++) {
        const int at = (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2;
        d[at] = plain[i];
        d[128 + at] = turned[i];
    }
}

// The same with a (16,8) and b (8,8) in float32. a[0] has bits beyond tf32, which mma_tf32 ignores.
__global__ void mma32(float *d, const float *a, const float *b)
{
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const unsigned fa[4] = {__float_as_uint(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]),
                            to_tf32(a[g * 8 + t + 4]), to_tf32(a[(g + 8) * 8 + t + 4])};
    float fd[4] = {};
    mma_tf32(fd, fa, to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g]));
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = fd[i];
}

static void test_mma()
{
    __nv_bfloat16 a[256], b[128], bt[128];
    float want[128];
    for (unsigned i = 0; i < 256; i++)
        a[i] = __float2bfloat16(small_number(i));
    for (unsigned i = 0; i < 128; i++)
        bt[i % 8 * 16 + i / 8] = b[i] = __float2bfloat16(small_number(i + 1000));
    for (int i = 0; i < 128; i++) {
        want[i] = 0;
        for (int k = 0; k < 16; k++)
            want[i] += __bfloat162float(a[i / 8 * 16 + k]) * __bfloat162float(b[k * 8 + i % 8]);
    }
    array<__nv_bfloat16> da(256), db(128), dbt(128);
    da.put(a);
    db.put(b);
    dbt.put(bt);
    array<float> d(256);
    float got[256];
    bool plain = good(LAUNCH(mma, 1, 32, 0, 0, d.at, da.at, db.at, dbt.at)), turned = plain;
    d.get(got);
    for (int i = 0; i < 128; i++) {
        plain = plain && got[i] == want[i] + 1;
        turned = turned && got[128 + i] == want[i];
    }
    ok(plain, "m16n8k16 with ldmatrix x4 and x2.trans");
    ok(turned, "m16n8k16 with ldmatrix x1");

    float a32[128], b32[64];
    for (unsigned i = 0; i < 128; i++)
        a32[i] = small_number(i + 5);
    for (unsigned i = 0; i < 64; i++)
        b32[i] = small_number(i + 77);
    for (int i = 0; i < 128; i++) {
        want[i] = 0;
        for (int k = 0; k < 8; k++)
            want[i] += a32[i / 8 * 8 + k] * b32[k * 8 + i % 8];
    }
    a32[0] *= 1 + 0x1p-12f;
    array<float> da32(128), db32(64), d32(128);
    da32.put(a32);
    db32.put(b32);
    bool same = good(LAUNCH(mma32, 1, 32, 0, 0, d32.at, da32.at, db32.at));
    d32.get(got);
    for (int i = 0; i < 128; i++)
        same = same && got[i] == want[i];
    ok(same, "m16n8k8 in tf32 ignores the bits beyond tf32");
}

__global__ void round_tf32(unsigned *bits, const float *x)
{
    bits[threadIdx.x] = to_tf32(x[threadIdx.x]);
}

static void test_tf32()
{
    const float x[4] = {1 + 0x1p-11f, 1 + 0x1p-11f - 0x1p-23f, -1 - 0x1p-11f, 3};
    const float rounded[4] = {1 + 0x1p-10f, 1, -1 - 0x1p-10f, 3};
    array<float> in(4);
    array<unsigned> out(4);
    in.put(x);
    unsigned got[4], want[4];
    memcpy(want, rounded, sizeof want);
    const bool ran = good(LAUNCH(round_tf32, 1, 4, 0, 0, out.at, in.at));
    out.get(got);
    ok(ran && memcmp(got, want, sizeof got) == 0, "tf32 is rounded, ties away from zero");
}

// Sums the columns of x (rows,COLUMNS), 16 rows at a time, while the next 16 are copied.
constexpr int COLUMNS = 1024, STAGE = 16 * COLUMNS;
__global__ void sum_columns(float *sums, const float *x, int rows)
{
    SHARED_DYNAMIC(float, tiles);
    const auto fetch = [&](int stage) {
        for (int i = threadIdx.x * 4; i < STAGE; i += blockDim.x * 4) {
            const int at = stage * STAGE + i;
            const bool inside = at < rows * COLUMNS;
            cp_async<16>(tiles + stage % 2 * STAGE + i, inside ? x + at : x, inside ? 16 : 0);
        }
        cp_async_commit();
    };
    float sum[COLUMNS / 256] = {};
    const int stages = (rows + 15) / 16;
    fetch(0);
    for (int stage = 0; stage < stages; stage++) {
        fetch(stage + 1);
        cp_async_wait<1>();
        __syncthreads();
        for (int row = 0; row < 16; row++)
            for (int i = 0; i < COLUMNS / 256; i++)
                sum[i] += tiles[stage % 2 * STAGE + row * COLUMNS + i * 256 + threadIdx.x];
        __syncthreads();
    }
    for (int i = 0; i < COLUMNS / 256; i++)
        sums[i * 256 + threadIdx.x] = sum[i];
}

static void test_cp_async()
{
    constexpr int rows = 37;
    static float host[rows * COLUMNS], want[COLUMNS], got[COLUMNS];
    for (int i = 0; i < rows * COLUMNS; i++)
        want[i % COLUMNS] += host[i] = small_number(i);
    array<float> x(rows * COLUMNS), sums(COLUMNS);
    x.put(host);
    const size_t shared = 2 * STAGE * sizeof(float);
    ok(LAUNCH(sum_columns, 1, 256, shared, 0, sums.at, x.at, rows) == cudaErrorInvalidValue,
       "more than 48 KB of shared memory must be asked for");
    const bool ran = good(cudaFuncSetAttribute(
                         sum_columns, cudaFuncAttributeMaxDynamicSharedMemorySize, shared)) &&
                     good(LAUNCH(sum_columns, 1, 256, shared, 0, sums.at, x.at, rows));
    sums.get(got);
    ok(ran && memcmp(got, want, sizeof got) == 0, "cp.async in two stages, the last filled with 0");
}

__constant__ float weights[4];

__global__ void atomics(float *sum, int *highest, unsigned *ticket, unsigned long long *product)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(sum, weights[i % 4]);
    atomicMax(highest, i * 37 % 1000);
    atomicInc(ticket, 99);
    if (i % 100 == 0) {
        unsigned long long old = *product, seen;
        while ((seen = atomicCAS(product, old, old * 3)) != old)
            old = seen;
    }
}

static void test_atomics()
{
    const float values[4] = {1, 2, 3, 4};
    array<float> sum(1);
    array<int> highest(1);
    array<unsigned> ticket(1);
    array<unsigned long long> product(1);
    const unsigned long long one = 1;
    product.put(&one);
    const bool ran =
        good(cudaMemcpyToSymbol(weights, values, sizeof values)) &&
        good(cudaMemset(sum.at, 0, 4)) && good(cudaMemset(highest.at, 0, 4)) &&
        good(cudaMemset(ticket.at, 0, 4)) &&
        good(LAUNCH(atomics, 10, 100, 0, 0, sum.at, highest.at, ticket.at, product.at));
    float s;
    int h;
    unsigned t;
    unsigned long long p;
    sum.get(&s);
    highest.get(&h);
    ticket.get(&t);
    product.get(&p);
    ok(ran && s == 2500 && h == 999 && t == 0 && p == 59049, "atomics; a table in constant memory");
}

__global__ void to_bf16(unsigned short *out, const float4 *in)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const float4 v = __ldg(in + i);
    const __nv_bfloat162 pair = __floats2bfloat162_rn(v.z, v.w);
    const unsigned packed = pack_bf16(v.x, v.y);
    out[4 * i] = static_cast<unsigned short>(packed);
    out[4 * i + 1] = static_cast<unsigned short>(packed >> 16);
    out[4 * i + 2] = __bfloat16_as_ushort(pair.x);
    out[4 * i + 3] = __bfloat16_as_ushort(__float2bfloat16(__high2float(pair)));
}

static void test_bf16()
{
    const struct {
        unsigned from;
        unsigned short to;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
        {0x3f817fff, 0x3f81}, {0xbf808001, 0xbf81}, {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80},
        {0x7f800001, 0x7fff}, {0x00000001, 0x0000}, {0x80008001, 0x8001}, {0x00018000, 0x0002},
    };
    constexpr unsigned n = sizeof cases / sizeof *cases;
    unsigned from[n];
    unsigned short got[n];
    for (unsigned i = 0; i < n; i++)
        from[i] = cases[i].from;
    array<unsigned> in(n);
    array<unsigned short> out(n);
    in.put(from);
    bool same =
        good(LAUNCH(to_bf16, 1, n / 4, 0, 0, out.at, reinterpret_cast<const float4 *>(in.at)));
    out.get(got);
    for (unsigned i = 0; i < n; i++)
        if (got[i] != cases[i].to) {
            diag("%08x: %04x, not %04x", from[i], got[i], cases[i].to);
            same = false;
        }
    ok(same, "bf16 is rounded to nearest, ties to even");
}

// Warps 0 and 1 pass numbers to warps 2 and 3, each pair with a barrier of its own.
__global__ void hand_over(int *out)
{
    SHARED(int, box, [2][32]);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, pair = warp % 2;
    if (warp < 2)
        box[pair][lane] = 100 * pair + lane;
    named_barrier(1 + pair, 64);
    if (warp >= 2)
        out[pair * 32 + lane] = box[pair][31 - lane];
}

static void test_named_barriers()
{
    array<int> out(64);
    int got[64];
    bool same = good(LAUNCH(hand_over, 1, 128, 0, 0, out.at));
    out.get(got);
    for (int i = 0; i < 64; i++)
        same = same && got[i] == i / 32 * 100 + 31 - i % 32;
    ok(same, "named barriers");
}

__global__ void multiply_add(float *y, const float *x, float factor, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = y[i] * factor + x[i];
}

// y = y 2 + x on one stream while z = z 3 + x runs on another, then y = y 1 + z.
static void test_graphs()
{
    constexpr int n = 100;
    constexpr size_t bytes = n * sizeof(float);
    array<float> x(n), y(n), z(n);
    float *pinned;
    cudaStream_t main_stream, side;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    bool ran = good(cudaMallocHost(&pinned, bytes)) &&
               good(cudaStreamCreateWithFlags(&main_stream, cudaStreamNonBlocking)) &&
               good(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking)) &&
               good(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming)) &&
               good(cudaEventCreateWithFlags(&join, cudaEventDisableTiming)) &&
               good(cudaMemset(y.at, 0, bytes)) && good(cudaMemset(z.at, 0, bytes));
    // The kernels' code must be loaded before the capture.
    ran = ran && good(LAUNCH(multiply_add, 1, 128, 0, 0, y.at, x.at, 0.0f, 0)) &&
          good(cudaDeviceSynchronize());
    ran = ran && good(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal)) &&
          good(cudaMemcpyAsync(x.at, pinned, bytes, cudaMemcpyHostToDevice, main_stream)) &&
          good(cudaEventRecord(fork, main_stream)) && good(cudaStreamWaitEvent(side, fork, 0)) &&
          good(LAUNCH(multiply_add, 1, 128, 0, main_stream, y.at, x.at, 2.0f, n)) &&
          good(LAUNCH(multiply_add, 1, 128, 0, side, z.at, x.at, 3.0f, n)) &&
          good(cudaEventRecord(join, side)) && good(cudaStreamWaitEvent(main_stream, join, 0)) &&
          good(LAUNCH(multiply_add, 1, 128, 0, main_stream, y.at, z.at, 1.0f, n)) &&
          good(cudaStreamEndCapture(main_stream, &graph)) &&
          good(cudaGraphInstantiate(&exec, graph, 0)) && good(cudaGraphDestroy(graph));
    float want_y = 0, want_z = 0, got[n];
    for (int launch = 1; launch <= 3; launch++) {
        for (int i = 0; i < n; i++)
            pinned[i] = static_cast<float>(launch);
        ran = ran && good(cudaGraphLaunch(exec, main_stream)) &&
              good(cudaStreamSynchronize(main_stream));
        want_z = want_z * 3 + static_cast<float>(launch);
        want_y = want_y * 2 + static_cast<float>(launch) + want_z;
    }
    y.get(got);
    for (int i = 0; i < n; i++)
        ran = ran && got[i] == want_y;
    ok(ran, "each launch of a graph of two streams reads the current data of the host");
    ran = good(cudaGraphExecDestroy(exec)) && good(cudaEventDestroy(fork)) &&
          good(cudaEventDestroy(join)) && good(cudaStreamDestroy(main_stream)) &&
          good(cudaStreamDestroy(side)) && good(cudaFreeHost(pinned));
    ok(ran, "streams, events and graphs are freed");
}

static void test_limits()
{
    array<int> out(256);
    ok(LAUNCH(shuffles, 1, 1025, 0, 0, out.at) == cudaErrorInvalidConfiguration &&
           LAUNCH(shuffles, 0, 32, 0, 0, out.at) == cudaErrorInvalidConfiguration &&
           cudaGetLastError() == cudaSuccess,
       "a launch of too many threads, or of none, is refused");
    int blocks = 0, limit = 0;
    ok(good(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0)) &&
           limit >= 163 << 10 &&
           good(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, shuffles, 32, 0)) &&
           blocks > 0,
       "limits and occupancy are known");
    size_t available, total;
    ok(good(cudaMemGetInfo(&available, &total)) && available < total, "the free memory is known");
}

int main()
{
    int count;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        skip("CUDA's primitives", "no device");
        return tap_done();
    }
    test_shuffles();
    test_scan();
    test_mma();
    test_tf32();
    test_cp_async();
    test_atomics();
    test_bf16();
    test_named_barriers();
    test_graphs();
    test_limits();
    return tap_done();
}
