// Pixels, and the built-in autoencoder: a discrete cosine transform. SPDX-License-Identifier: MIT
//
// All of it waits for memory: a pixel is 3 bytes and 12 as float32, and the transform's 16 or so
// coefficients of a block of 64 pixels cost some 50 operations a pixel, beside 12 bytes.
//
// Pixels go one a thread, so that the planes of float32 are accessed by whole lines. Of the
// transform a CUDA block does 16 blocks that lie side by side, one of y x u x C coefficients a
// thread, on pixels in shared memory; what it reads and writes are runs of 32 bytes of x and, of 16
// neighbours, 64 of z. A basis function is a product of two cosines from a table of 64.
#include <string.h>

#include "kernels/cuda/vector.h"
#include "kernels/zigzag.h"

#define PIXELS 4 // of a thread

// Levels become values by a table: a division in double for each is all that it takes to have
// what every backend has.
static __global__ void image_to_float_kernel(float *x, const uint8_t *images, size_t B, size_t n)
{
    SHARED(float, values, [256]);
    values[threadIdx.x] = static_cast<float>(threadIdx.x / 127.5 - 1);
    __syncthreads();
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        for (size_t k = 0; k < PIXELS; k++) {
            const size_t i = (static_cast<size_t>(blockIdx.x) * PIXELS + k) * THREADS + threadIdx.x;
            for (size_t c = 0; c < 3 && i < n; c++)
                x[(b * 3 + c) * n + i] = values[images[(b * n + i) * 3 + c]];
        }
}

// With a rounding after the product, as in kernels/ref/image.c.
static __global__ void float_to_image_kernel(uint8_t *images, const float *x, size_t B, size_t n)
{
    for (size_t b = blockIdx.y; b < B; b += gridDim.y)
        for (size_t k = 0; k < PIXELS; k++) {
            const size_t i = (static_cast<size_t>(blockIdx.x) * PIXELS + k) * THREADS + threadIdx.x;
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
        RUN_KERNEL(device, image_to_float_kernel, sample_grid(B, H * W, PIXELS), THREADS, 0, x,
                   images, B, H * W);
}

void CUDA_FN(float_to_image)(struct device *device, uint8_t *images, const float *x, size_t B,
                             size_t H, size_t W)
{
    if (B * H * W > 0)
        RUN_KERNEL(device, float_to_image_kernel, sample_grid(B, H * W, PIXELS), THREADS, 0, images,
                   x, B, H * W);
}

#define GROUP 16 // blocks of 8x8 pixels of a CUDA block

struct dct {
    const uint8_t *images; // what is encoded
    float *z, *x;          // encoded; and decoded
    float divisor;
    int n_y, n_c;
    size_t blocks, across, area; // of one image: of 8x8 pixels; those side by side; pixels
    size_t all;                  // blocks of all images
    uint8_t order[64];           // zigzag
};

// cosines[u][i]: the u-th basis function of the orthonormal DCT of 8 points at i.
static __device__ __forceinline__ void find_cosines(float (&cosines)[8][8])
{
    if (threadIdx.x < 64) {
        const int u = threadIdx.x / 8, i = threadIdx.x % 8;
        cosines[u][i] = (u ? 0.5f : 0.35355339f) * cospif((2 * i + 1) * u / 16.0f);
    }
}

// Where block `block` begins in a plane of its image, in x, and its first coefficient in z.
static __device__ __forceinline__ size_t in_plane(const struct dct &p, size_t block)
{
    const size_t in_image = block % p.blocks, W = 8 * p.across;
    return in_image / p.across * 8 * W + in_image % p.across * 8;
}
static __device__ __forceinline__ size_t pixels_at(const struct dct &p, size_t block)
{
    return block / p.blocks * 3 * p.area + in_plane(p, block);
}
static __device__ __forceinline__ size_t coefficients_at(const struct dct &p, size_t block)
{
    return block / p.blocks * (p.n_y + 2 * p.n_c) * p.blocks + block % p.blocks;
}

static __global__ void dct_encode_kernel(const __grid_constant__ struct dct p)
{
    SHARED(float, cosines, [8][8]);
    SHARED(float, ycc, [3][64][GROUP + 1]);
    const size_t first = static_cast<size_t>(blockIdx.x) * GROUP;
    find_cosines(cosines);
    for (int i = threadIdx.x; i < 64 * GROUP; i += THREADS) {
        const int block = i / 64, pixel = i % 64;
        if (first + block >= p.all)
            break;
        const size_t at = (first + block) / p.blocks * p.area + in_plane(p, first + block) +
                          pixel / 8 * 8 * p.across + pixel % 8;
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
    for (int i = threadIdx.x; i < C * GROUP; i += THREADS) {
        const int block = i % GROUP, channel = i / GROUP;
        if (first + block >= p.all)
            continue;
        const int c = channel < p.n_y ? 0 : channel < p.n_y + p.n_c ? 1 : 2;
        const int k = p.order[c == 0 ? channel : channel - p.n_y - (c - 1) * p.n_c];
        float sum = 0;
        for (int row = 0; row < 8; row++) {
            float line = 0;
            for (int column = 0; column < 8; column++)
                line += cosines[k % 8][column] * ycc[c][row * 8 + column][block];
            sum += cosines[k / 8][row] * line;
        }
        p.z[coefficients_at(p, first + block) + channel * p.blocks] = sum / p.divisor;
    }
}

// The value of one component at a pixel from its first n coefficients.
static __device__ __forceinline__ float find_value(const float (&cosines)[8][8], const float *z,
                                                   const struct dct &p, int n, int pixel)
{
    float sum = 0;
    for (int k = 0; k < n; k++)
        sum +=
            cosines[p.order[k] / 8][pixel / 8] * cosines[p.order[k] % 8][pixel % 8] * z[k * GROUP];
    return sum;
}

static __global__ void dct_decode_kernel(const __grid_constant__ struct dct p)
{
    SHARED(float, cosines, [8][8]);
    SHARED(float, z, [3 * 64][GROUP]);
    const size_t first = static_cast<size_t>(blockIdx.x) * GROUP;
    const int C = p.n_y + 2 * p.n_c;
    find_cosines(cosines);
    for (int i = threadIdx.x; i < C * GROUP; i += THREADS)
        if (first + i % GROUP < p.all)
            z[i / GROUP][i % GROUP] =
                p.z[coefficients_at(p, first + i % GROUP) + i / GROUP * p.blocks];
    __syncthreads();
    for (int i = threadIdx.x; i < 64 * GROUP; i += THREADS) {
        const int block = i / 64, pixel = i % 64;
        if (first + block >= p.all)
            break;
        const float y = find_value(cosines, z[0] + block, p, p.n_y, pixel);
        const float cb = find_value(cosines, z[p.n_y] + block, p, p.n_c, pixel);
        const float cr = find_value(cosines, z[p.n_y + p.n_c] + block, p, p.n_c, pixel);
        const float r = y + 1.402f * cr, b = y + 1.772f * cb;
        float *to = p.x + pixels_at(p, first + block) + pixel / 8 * 8 * p.across + pixel % 8;
        to[0] = r * p.divisor;
        to[p.area] = (y - 0.299f * r - 0.114f * b) / 0.587f * p.divisor;
        to[2 * p.area] = b * p.divisor;
    }
}

static struct dct plan_dct(float divisor, size_t n_y, size_t n_c, size_t B, size_t H, size_t W)
{
    struct dct p = {};
    p.divisor = divisor;
    p.n_y = static_cast<int>(n_y);
    p.n_c = static_cast<int>(n_c);
    p.blocks = H / 8 * (W / 8);
    p.across = W / 8;
    p.area = H * W;
    p.all = B * p.blocks;
    memcpy(p.order, zigzag, sizeof p.order);
    return p;
}

void CUDA_FN(dct_encode)(struct device *device, float *z, const uint8_t *images, float divisor,
                         size_t n_y, size_t n_c, size_t B, size_t H, size_t W)
{
    struct dct p = plan_dct(divisor, n_y, n_c, B, H, W);
    p.z = z;
    p.images = images;
    if (p.all)
        RUN_KERNEL(device, dct_encode_kernel, blocks_for(p.all, GROUP), THREADS, 0, p);
}

void CUDA_FN(dct_decode)(struct device *device, float *x, const float *z, float divisor, size_t n_y,
                         size_t n_c, size_t B, size_t H, size_t W)
{
    struct dct p = plan_dct(divisor, n_y, n_c, B, H, W);
    p.z = const_cast<float *>(z);
    p.x = x;
    if (p.all)
        RUN_KERNEL(device, dct_decode_kernel, blocks_for(p.all, GROUP), THREADS, 0, p);
}
