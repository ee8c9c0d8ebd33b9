// Conversion of pixels, and the built-in autoencoder, a discrete cosine transform.
// SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"
#include "kernels/zigzag.h"

void ref_image_to_float(DEVICE, float *x, const uint8_t *images, size_t B, size_t H, size_t W)
{
    for (size_t n = 0; n < B * H * W; n++)
        for (size_t c = 0; c < 3; c++)
            x[(n / (H * W) * 3 + c) * H * W + n % (H * W)] = (float)(images[n * 3 + c] / 127.5 - 1);
}

// In float32, rounded after the product as in PyTorch, so that every backend gives the same level.
void ref_float_to_image(DEVICE, uint8_t *images, const float *x, size_t B, size_t H, size_t W)
{
    for (size_t n = 0; n < B * H * W; n++) {
        for (size_t c = 0; c < 3; c++) {
            float product = 127.5f * x[(n / (H * W) * 3 + c) * H * W + n % (H * W)];
            float level = product + 128.0f;
            images[n * 3 + c] = level >= 255 ? 255 : level > 0 ? (uint8_t)level : 0;
        }
    }
}

// The basis function of the k-th coefficient of the orthonormal 8x8 DCT (ITU-T T.81, A.3.3) at one
// pixel of the block.
static double dct_basis(size_t k, size_t row, size_t column)
{
    size_t v = zigzag[k] / 8, u = zigzag[k] % 8;
    double c = (u ? 1 : M_SQRT1_2) * (v ? 1 : M_SQRT1_2) / 4;
    return c * cos((double)((2 * row + 1) * v) * M_PI / 16) *
           cos((double)((2 * column + 1) * u) * M_PI / 16);
}

// RGB to full-range luma and chroma and back: JFIF 1.02 (ITU-R BT.601), without the offset of
// chroma.
static void ycc_from_rgb(double ycc[3], const double rgb[3])
{
    ycc[0] = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    ycc[1] = (rgb[2] - ycc[0]) / 1.772;
    ycc[2] = (rgb[0] - ycc[0]) / 1.402;
}

static void rgb_from_ycc(double rgb[3], const double ycc[3])
{
    rgb[0] = ycc[0] + 1.402 * ycc[2];
    rgb[2] = ycc[0] + 1.772 * ycc[1];
    rgb[1] = (ycc[0] - 0.299 * rgb[0] - 0.114 * rgb[2]) / 0.587;
}

// The offset of the first pixel of an 8x8 block within a channel (H,W).
static size_t dct_block_offset(size_t block, size_t W)
{
    return block / (W / 8) * 8 * W + block % (W / 8) * 8;
}

void ref_dct_encode(DEVICE, float *z, const uint8_t *images, float divisor, size_t n_y, size_t n_c,
                    size_t B, size_t H, size_t W)
{
    const size_t C = n_y + 2 * n_c, blocks = H / 8 * (W / 8), coefficients[3] = {n_y, n_c, n_c};
    for (size_t n = 0; n < B * blocks; n++) {
        const uint8_t *from = images + (n / blocks * H * W + dct_block_offset(n % blocks, W)) * 3;
        double sums[3][64] = {0};
        for (size_t i = 0; i < 64; i++) {
            const uint8_t *pixel = from + (i / 8 * W + i % 8) * 3;
            double ycc[3], rgb[3];
            for (size_t c = 0; c < 3; c++)
                rgb[c] = pixel[c] / 127.5 - 1;
            ycc_from_rgb(ycc, rgb);
            for (size_t c = 0; c < 3; c++)
                for (size_t k = 0; k < coefficients[c]; k++)
                    sums[c][k] += ycc[c] * dct_basis(k, i / 8, i % 8);
        }
        float *to = z + n / blocks * C * blocks + n % blocks;
        for (size_t c = 0; c < 3; c++)
            for (size_t k = 0; k < coefficients[c]; k++, to += blocks)
                *to = (float)(sums[c][k] / divisor);
    }
}

void ref_dct_decode(DEVICE, float *x, const float *z, float divisor, size_t n_y, size_t n_c,
                    size_t B, size_t H, size_t W)
{
    const size_t C = n_y + 2 * n_c, blocks = H / 8 * (W / 8), coefficients[3] = {n_y, n_c, n_c};
    for (size_t n = 0; n < B * blocks; n++) {
        const float *from = z + n / blocks * C * blocks + n % blocks;
        float *to = x + n / blocks * 3 * H * W + dct_block_offset(n % blocks, W);
        for (size_t i = 0; i < 64; i++) {
            double ycc[3] = {0}, rgb[3];
            for (size_t c = 0, channel = 0; c < 3; c++)
                for (size_t k = 0; k < coefficients[c]; k++, channel++)
                    ycc[c] += (double)from[channel * blocks] * dct_basis(k, i / 8, i % 8);
            rgb_from_ycc(rgb, ycc);
            for (size_t c = 0; c < 3; c++)
                to[i / 8 * W + i % 8 + c * H * W] = (float)(rgb[c] * divisor);
        }
    }
}
