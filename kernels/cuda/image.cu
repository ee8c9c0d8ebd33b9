// Conversions of pixels, and the DCT of the built-in autoencoder. SPDX-License-Identifier: MIT
//
// Everything is bound by memory: a pixel is 3 bytes, or 12 as float32, and the transform takes
// about 50 operations a pixel for 16 coefficients of each tile of 8x8 pixels.
//
// A thread converts one pixel at a time, so that a warp accesses the float32 planes in whole cache
// lines. For the transform a CUDA block takes TILES adjacent tiles, with their pixels (or
// coefficients) in shared memory, and each thread computes one coefficient (or pixel) at a time. A
// basis function is the product of two cosines from a table of 64.
#include <string.h>

#include "kernels/cuda/vector.h"
#include "kernels/zigzag.h"

constexpr int THREAD_PIXELS = 4;

// Looks up each of the 256 levels in a table that is computed in double, so that the values have
// the same bits as on every backend.
static __global__ void image_to_float_kernel(float *x, const uint8_t *images, size_t B, size_t n)
{
    SHARED(float, values, [256]);
    values[threadIdx.x] = static_cast<float>(threadIdx.x / 127.5 - 1);
    __syncthreads();
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        for (size_t k = 0; k < THREAD_PIXELS; k++) {
            const size_t i =
                (static_cast<size_t>(blockIdx.x) * THREAD_PIXELS + k) * THREADS + threadIdx.x;
            for (size_t c = 0; c < 3 && i < n; c++)
                x[(b * 3 + c) * n + i] = values[images[(b * n + i) * 3 + c]];
        }
}

// Rounds after the product, as kernels/ref/image.c does.
static __global__ void float_to_image_kernel(uint8_t *images, const float *x, size_t B, size_t n)
{
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        for (size_t k = 0; k < THREAD_PIXELS; k++) {
            const size_t i =
                (static_cast<size_t>(blockIdx.x) * THREAD_PIXELS + k) * THREADS + threadIdx.x;
            for (size_t c = 0; c < 3 && i < n; c++) {
                const float level = __fadd_rn(__fmul_rn(127.5f, x[(b * 3 + c) * n + i]), 128.0f);
                images[(b * n + i) * 3 + c] = level >= 255 ? 255
                                              : level > 0  ? static_cast<uint8_t>(level)
                                                           : 0;
            }
        }
}

void CUDA_FN(image_to_float)(struct device *device, float *x, const uint8_t *images, size_t B,
                             size_t H, size_t W)
{
    if (B * H * W > 0)
        RUN_KERNEL(device, image_to_float_kernel, sample_grid(B, H * W, THREAD_PIXELS), THREADS, 0,
                   x, images, B, H * W);
}

void CUDA_FN(float_to_image)(struct device *device, uint8_t *images, const float *x, size_t B,
                             size_t H, size_t W)
{
    if (B * H * W > 0)
        RUN_KERNEL(device, float_to_image_kernel, sample_grid(B, H * W, THREAD_PIXELS), THREADS, 0,
                   images, x, B, H * W);
}

constexpr int TILES = 16; // tiles of 8x8 pixels in a CUDA block

struct dct {
    const uint8_t *images; // input of encoding
    float *z, *x;          // latents; output of decoding
    float divisor;
    int n_y, n_c;
    size_t tiles, row_tiles, area; // of one image: 8x8 blocks; 8x8 blocks in a row; pixels
    size_t all_tiles;              // 8x8 blocks of all images
    uint8_t order[64];             // zigzag
};

// basis[u][i]: the u-th basis function of the orthonormal 8-point DCT at i.
static __device__ __forceinline__ void fill_basis(float (&basis)[8][8])
{
    if (threadIdx.x < 64) {
        const int u = threadIdx.x / 8, i = threadIdx.x % 8;
        basis[u][i] = (u ? 0.5f : 0.35355339f) * cospif((2 * i + 1) * u / 16.0f);
    }
}

// The offsets of an 8x8 block: in a plane of its image, in x, and of its first coefficient in z.
static __device__ __forceinline__ size_t plane_offset(const struct dct &p, size_t block)
{
    const size_t in_image = block % p.tiles, W = 8 * p.row_tiles;
    return in_image / p.row_tiles * 8 * W + in_image % p.row_tiles * 8;
}
static __device__ __forceinline__ size_t pixel_offset(const struct dct &p, size_t block)
{
    return block / p.tiles * 3 * p.area + plane_offset(p, block);
}
static __device__ __forceinline__ size_t coefficient_offset(const struct dct &p, size_t block)
{
    return block / p.tiles * (p.n_y + 2 * p.n_c) * p.tiles + block % p.tiles;
}

static __global__ void dct_encode_kernel(const __grid_constant__ struct dct p)
{
    SHARED(float, basis, [8][8]);
    SHARED(float, ycc, [3][64][TILES + 1]);
    const size_t first = static_cast<size_t>(blockIdx.x) * TILES;
    fill_basis(basis);
    for (int i = threadIdx.x; i < 64 * TILES; i += THREADS) {
        const int block = i / 64, pixel = i % 64;
        if (first + block >= p.all_tiles)
            break;
        const size_t at = (first + block) / p.tiles * p.area + plane_offset(p, first + block) +
                          pixel / 8 * 8 * p.row_tiles + pixel % 8;
        // JFIF 1.02, as in kernels/ref/image.c.
        const float r = p.images[3 * at] / 127.5f - 1, g = p.images[3 * at + 1] / 127.5f - 1;
        const float b = p.images[3 * at + 2] / 127.5f - 1;
        const float y = 0.299f * r + 0.587f * g + 0.114f * b;
        ycc[0][pixel][block] = y;
        ycc[1][pixel][block] = (b - y) / 1.772f;
        ycc[2][pixel][block] = (r - y) / 1.402f;
    }
    __syncthreads();
    const int C = p.n_y + 2 * p.n_c;
    for (int i = threadIdx.x; i < C * TILES; i += THREADS) {
        const int block = i % TILES, channel = i / TILES;
        if (first + block >= p.all_tiles)
            continue;
        const int c = channel < p.n_y ? 0 : channel < p.n_y + p.n_c ? 1 : 2;
        const int k = p.order[c == 0 ? channel : channel - p.n_y - (c - 1) * p.n_c];
        float sum = 0;
        for (int row = 0; row < 8; row++) {
            float line = 0;
            for (int column = 0; column < 8; column++)
                line += basis[k % 8][column] * ycc[c][row * 8 + column][block];
            sum += basis[k / 8][row] * line;
        }
        p.z[coefficient_offset(p, first + block) + channel * p.tiles] = sum / p.divisor;
    }
}

// One component's value at a pixel, from its first n coefficients.
static __device__ __forceinline__ float sum_basis(const float (&basis)[8][8], const float *z,
                                                  const struct dct &p, int n, int pixel)
{
    float sum = 0;
    for (int k = 0; k < n; k++)
        sum += basis[p.order[k] / 8][pixel / 8] * basis[p.order[k] % 8][pixel % 8] * z[k * TILES];
    return sum;
}

static __global__ void dct_decode_kernel(const __grid_constant__ struct dct p)
{
    SHARED(float, basis, [8][8]);
    SHARED(float, z, [3 * 64][TILES]);
    const size_t first = static_cast<size_t>(blockIdx.x) * TILES;
    const int C = p.n_y + 2 * p.n_c;
    fill_basis(basis);
    for (int i = threadIdx.x; i < C * TILES; i += THREADS)
        if (first + i % TILES < p.all_tiles)
            z[i / TILES][i % TILES] =
                p.z[coefficient_offset(p, first + i % TILES) + i / TILES * p.tiles];
    __syncthreads();
    for (int i = threadIdx.x; i < 64 * TILES; i += THREADS) {
        const int block = i / 64, pixel = i % 64;
        if (first + block >= p.all_tiles)
            break;
        const float y = sum_basis(basis, z[0] + block, p, p.n_y, pixel);
        const float cb = sum_basis(basis, z[p.n_y] + block, p, p.n_c, pixel);
        const float cr = sum_basis(basis, z[p.n_y + p.n_c] + block, p, p.n_c, pixel);
        const float r = y + 1.402f * cr, b = y + 1.772f * cb;
        float *to = p.x + pixel_offset(p, first + block) + pixel / 8 * 8 * p.row_tiles + pixel % 8;
        to[0] = r * p.divisor;
        to[p.area] = (y - 0.299f * r - 0.114f * b) / 0.587f * p.divisor;
        to[2 * p.area] = b * p.divisor;
    }
}

static struct dct describe_dct(float divisor, size_t n_y, size_t n_c, size_t B, size_t H, size_t W)
{
    struct dct p = {};
    p.divisor = divisor;
    p.n_y = static_cast<int>(n_y);
    p.n_c = static_cast<int>(n_c);
    p.tiles = H / 8 * (W / 8);
    p.row_tiles = W / 8;
    p.area = H * W;
    p.all_tiles = B * p.tiles;
    memcpy(p.order, zigzag, sizeof p.order);
    return p;
}

void CUDA_FN(dct_encode)(struct device *device, float *z, const uint8_t *images, float divisor,
                         size_t n_y, size_t n_c, size_t B, size_t H, size_t W)
{
    struct dct p = describe_dct(divisor, n_y, n_c, B, H, W);
    p.z = z;
    p.images = images;
    if (p.all_tiles)
        RUN_KERNEL(device, dct_encode_kernel, blocks_for(p.all_tiles, TILES), THREADS, 0, p);
}

void CUDA_FN(dct_decode)(struct device *device, float *x, const float *z, float divisor, size_t n_y,
                         size_t n_c, size_t B, size_t H, size_t W)
{
    struct dct p = describe_dct(divisor, n_y, n_c, B, H, W);
    p.z = const_cast<float *>(z);
    p.x = x;
    if (p.all_tiles)
        RUN_KERNEL(device, dct_decode_kernel, blocks_for(p.all_tiles, TILES), THREADS, 0, p);
}
