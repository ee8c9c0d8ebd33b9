// Conversion of pixels, and the DCT of the built-in autoencoder. SPDX-License-Identifier: MIT
//
// One thread does all of this: an image takes a tenth of the time that decoding its file takes, and
// the other programs of a pipe need the other threads' processors.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "kernels/zigzag.h"

void ISA_FN(image_to_float)(DEVICE, float *x, const uint8_t *images, size_t B, size_t H, size_t W)
{
    const size_t n = H * W;
    for (size_t row = 0; row < B * H; row++) {
        float *to = x + row / H * 3 * n + row % H * W;
        const uint8_t *from = images + row * W * 3;
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < W; i++)
                to[c * n + i] = (float)from[3 * i + c] / 127.5f - 1;
    }
}

void ISA_FN(float_to_image)(DEVICE, uint8_t *images, const float *x, size_t B, size_t H, size_t W)
{
    const size_t n = H * W;
    for (size_t row = 0; row < B * H; row++) {
        const float *from = x + row / H * 3 * n + row % H * W;
        uint8_t *to = images + row * W * 3;
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < W; i++) {
                // Two statements, which no compiler may fuse: the rounding of the product decides
                // the level.
                const float product = 127.5f * from[c * n + i];
                float level = product + 128.0f;
                level = level > 0 ? level : 0; // also for NaN
                to[3 * i + c] = (uint8_t)(level < 255 ? level : 255);
            }
    }
}

// basis[u][i] is the u-th function of the orthonormal DCT of 8 points at i (ITU-T T.81, A.3.3).
static void fill_basis(float basis[8][8], float transposed[8][8])
{
    for (int u = 0; u < 8; u++)
        for (int i = 0; i < 8; i++) {
            double value = cos((2 * i + 1) * u * M_PI / 16) / (u ? 2 : sqrt(8));
            basis[u][i] = transposed[i][u] = (float)value;
        }
}

// The first `rows` rows of out = a b, where only the first `depth` rows of b are not 0.
INLINE void multiply_8x8(float out[8][8], const float a[8][8], const float b[8][8], size_t rows,
                         size_t depth)
{
    for (size_t i = 0; i < rows; i++) {
        float sum[8] = {0};
        for (size_t k = 0; k < depth; k++)
            for (size_t j = 0; j < 8; j++)
                sum[j] = multiply_add(a[i][k], b[k][j], sum[j]);
        memcpy(out[i], sum, sizeof sum);
    }
}

// The side of the smallest square, from the corner of an 8x8 block, that holds the first n
// coefficients in zig-zag order.
static size_t coefficients_side(size_t n)
{
    size_t extent = 0;
    for (size_t k = 0; k < n; k++) {
        size_t row = zigzag[k] / 8, column = zigzag[k] % 8, side = row > column ? row : column;
        extent = side + 1 > extent ? side + 1 : extent;
    }
    return extent;
}

// Blocks of 8x8 pixels that are encoded together: a vector lane each, or two vectors of 4 lanes.
#define ACROSS (LANES < 8 ? 8 : LANES)

// Converts 8 rows of n pixels to Y, B - Y and R - Y, with levels centred on 0.
INLINE void take_levels(float ycc[3][8][8 * ACROSS], const uint8_t *from, size_t stride, size_t n)
{
    for (size_t i = 0; i < 8; i++, from += stride)
        for (size_t j = 0; j < n; j++) {
            const float r = (float)from[3 * j] - 127.5f, g = (float)from[3 * j + 1] - 127.5f;
            const float b = (float)from[3 * j + 2] - 127.5f;
            const float y = 0.299f * r + 0.587f * g + 0.114f * b;
            ycc[0][i][j] = y;
            ycc[1][i][j] = b - y;
            ycc[2][i][j] = r - y;
        }
}

// to (8,ACROSS) = the transpose of `from` (ACROSS,8), behind which further LANES - 8 floats are
// read.
INLINE void transpose_blocks(float to[8][ACROSS], const float *from)
{
#if LANES > 8
    vec rows[LANES];
    for (size_t i = 0; i < LANES; i++)
        rows[i] = vec_load(from + 8 * i); // its second half, the next row, ends in no result
    vec_transpose(rows);
    for (size_t i = 0; i < 8; i++)
        *(vec_u *)to[i] = rows[i];
#else
    transpose(to[0], ACROSS, from, 8, ACROSS, 8);
#endif
}

// The DCT along the columns of ACROSS blocks: half[u][column][block], for u < extent.
INLINE void transform_columns(float half[8][8][ACROSS], const float rows[8][8 * ACROSS],
                              const float basis[8][8], size_t extent)
{
    float line[9][8 * ACROSS];
    if (LANES > 8) // transpose_blocks reads the beginning of this row
        memset(line[extent], 0, sizeof line[extent]);
    for (size_t j = 0; j < 8 * ACROSS; j += LANES) {
        vec row[8];
        for (size_t i = 0; i < 8; i++)
            row[i] = *(const vec_u *)&rows[i][j];
        for (size_t u = 0; u < extent; u++) {
            vec sum = {0};
            for (size_t i = 0; i < 8; i++)
                sum = vec_multiply_add(basis[u][i], row[i], sum);
            *(vec_u *)&line[u][j] = sum;
        }
    }
    for (size_t u = 0; u < extent; u++)
        transpose_blocks(half[u], line[u]);
}

// The DCT along the rows, one coefficient of every block: z = factor times half times basis.
INLINE void transform_row(float z[ACROSS], const float half[8][ACROSS], const float basis[8],
                          float factor)
{
    for (size_t block = 0; block < ACROSS; block += LANES) {
        vec sum = {0};
        for (size_t i = 0; i < 8; i++)
            sum = vec_multiply_add(basis[i], *(const vec_u *)&half[i][block], sum);
        *(vec_u *)&z[block] = sum * factor;
    }
}

void ISA_FN(dct_encode)(DEVICE, float *z, const uint8_t *images, float divisor, size_t n_y,
                        size_t n_c, size_t B, size_t H, size_t W)
{
    const size_t C = n_y + 2 * n_c, rows = H / 8, columns = W / 8;
    const size_t kept[3] = {n_y, n_c, n_c};
    const size_t side[3] = {coefficients_side(n_y), coefficients_side(n_c), coefficients_side(n_c)};
    const float unit = 1 / (127.5f * divisor), factor[3] = {unit, unit / 1.772f, unit / 1.402f};
    float basis[8][8], transposed[8][8];
    fill_basis(basis, transposed);
    for (size_t job = 0; job < B * rows; job++) {
        float ycc[3][8][8 * ACROSS] = {0}, half[8][8][ACROSS], values[ACROSS];
        for (size_t column = 0; column < columns; column += ACROSS) {
            const size_t n = column + ACROSS < columns ? ACROSS : columns - column;
            float *to = z + job / rows * C * rows * columns + job % rows * columns + column;
            take_levels(ycc, images + (job * 8 * W + column * 8) * 3, 3 * W, 8 * n);
            for (size_t c = 0; c < 3; c++) {
                transform_columns(half, ycc[c], basis, side[c]);
                for (size_t k = 0; k < kept[c]; k++, to += rows * columns) {
                    transform_row(values, half[zigzag[k] / 8], basis[zigzag[k] % 8], factor[c]);
                    memcpy(to, values, n * sizeof *to);
                }
            }
        }
    }
}

void ISA_FN(dct_decode)(DEVICE, float *x, const float *z, float divisor, size_t n_y, size_t n_c,
                        size_t B, size_t H, size_t W)
{
    const size_t C = n_y + 2 * n_c, n = H * W, rows = H / 8, columns = W / 8;
    const size_t kept[3] = {n_y, n_c, n_c};
    const size_t side[3] = {coefficients_side(n_y), coefficients_side(n_c), coefficients_side(n_c)};
    float basis[8][8], transposed[8][8];
    fill_basis(basis, transposed);
    for (size_t job = 0; job < B * rows * columns; job++) {
        const size_t b = job / (rows * columns), row = job / columns % rows, column = job % columns;
        const float *from = z + (b * C * rows + row) * columns + column;
        float *to = x + b * 3 * n + row * 8 * W + column * 8;
        float ycc[3][8][8] = {0}, half[8][8];
        for (size_t c = 0; c < 3; c++) {
            for (size_t k = 0; k < kept[c]; k++, from += rows * columns)
                ycc[c][zigzag[k] / 8][zigzag[k] % 8] = divisor * *from;
            multiply_8x8(half, transposed, ycc[c], 8, side[c]);
            multiply_8x8(ycc[c], half, basis, 8, side[c]);
        }
        for (size_t i = 0; i < 8; i++)
            for (size_t j = 0; j < 8; j++) {
                float y = ycc[0][i][j], r = y + 1.402f * ycc[2][i][j];
                float blue = y + 1.772f * ycc[1][i][j];
                to[i * W + j] = r;
                to[n + i * W + j] = (y - 0.299f * r - 0.114f * blue) * (1 / 0.587f);
                to[2 * n + i * W + j] = blue;
            }
    }
}
