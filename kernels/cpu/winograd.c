// 3x3 convolutions by Winograd's minimal filtering F(4x4,3x3): 36 multiplications for 16 outputs
// instead of 144 (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016).
// SPDX-License-Identifier: MIT
//
// A tile of 6x6 pixels of x becomes 36 numbers a channel, the weights 36 numbers a pair of
// channels; 36 products (tiles,I) (I,O) then give 36 numbers a channel of 4x4 outputs. Along each
// side these numbers are values of polynomials at 0, +-sqrt(1/2), +-sqrt(2) and infinity.
//
// Rounding: the terms that make up an output sum to at most 69 times what those of the direct sum
// do, where pixels and weights have one size (256 times with the usual points 0, +-1, +-2 and
// infinity). For normal values the error is 1.1e-6 of the norm of y with 128 inputs, 1.5e-6 with
// 512; that of direct sums is 2e-7.
//
// An output depends on its tile alone, and a tile on its place in its image: not on the other
// images or the number of threads.
#include <omp.h>

#include "kernels/cpu/convolution.h"
#include "kernels/cpu/product.h"

#define IN      6 // pixels along a side of a tile of x
#define OUT     4 // and of y
#define POINTS  36
#define BLOCK_K 256
#define BLOCK_T 24                // tiles at once: a multiple of TILE_M
#define WEIGHTS ((size_t)1 << 16) // pairs of channels whose transformed weights are made at once

#define ROOT_HALF 0.70710678f
#define ROOT_TWO  1.41421356f

struct winograd {
    const struct convolution *conv;
    size_t tiles_x, tiles_y;          // of an image
    size_t block;                     // tiles of a block, a multiple of TILE_M
    size_t x_plane, w_plane, y_plane; // floats between the 36 parts of what is transformed
    size_t o, strips;   // the channels in work: their first, and TILE_N times `strips` of them
    float *weights;     // (36) planes (strips,I,TILE_N)
    const float *zeros; // (I)
};

INLINE vec load(const float *at)
{
    return *(const vec_u *)at;
}

INLINE void transform_x(vec to[IN], const vec x[IN])
{
    const vec even_a = vec_multiply_add(-2, x[2], x[4]);
    const vec even_b = vec_multiply_add(-0.5f, x[2], x[4]);
    const vec odd_a = ROOT_HALF * vec_multiply_add(-2, x[1], x[3]);
    const vec odd_b = ROOT_TWO * vec_multiply_add(-0.5f, x[1], x[3]);
    to[0] = vec_multiply_add(-2.5f, x[2], x[0] + x[4]);
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = vec_multiply_add(-2.5f, x[3], x[1] + x[5]);
}

INLINE void transform_w(vec to[IN], const vec w[3])
{
    const vec even_a = -2.0f / 3 * vec_multiply_add(0.5f, w[2], w[0]);
    const vec even_b = 1.0f / 6 * vec_multiply_add(2, w[2], w[0]);
    const vec odd_a = -2.0f / 3 * ROOT_HALF * w[1], odd_b = 1.0f / 6 * ROOT_TWO * w[1];
    to[0] = w[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = w[2];
}

INLINE void transform_y(vec to[OUT], const vec y[IN])
{
    const vec even_a = y[1] + y[2], odd_a = ROOT_HALF * (y[1] - y[2]);
    const vec even_b = y[3] + y[4], odd_b = ROOT_TWO * (y[3] - y[4]);
    to[0] = y[0] + even_a + even_b;
    to[1] = odd_a + odd_b;
    to[2] = vec_multiply_add(2, even_b, 0.5f * even_a);
    to[3] = vec_multiply_add(2, odd_b, vec_multiply_add(0.5f, odd_a, y[5]));
}

// Inputs i .. i + LANES - 1 to the outputs of one strip.
static void transform_weights(const struct winograd *p, size_t strip, size_t i)
{
    const size_t I = p->conv->I;
    const float *w = p->conv->w + (p->o + strip * TILE_N) * 9 * I + i;
    float taps[LANES][9][TILE_N] __attribute__((aligned(64)));
    for (size_t tap = 0; tap < 9; tap++)
        for (size_t o = 0; o < TILE_N; o++)
            for (size_t k = 0; k < LANES; k++)
                taps[k][tap][o] = w[(o * 9 + tap) * I + k];
    for (size_t k = 0; k < LANES; k++)
        for (size_t o = 0; o < TILE_N; o += LANES) {
            vec half[3][IN];
            for (size_t column = 0; column < 3; column++) {
                const vec from[3] = {load(&taps[k][column][o]), load(&taps[k][3 + column][o]),
                                     load(&taps[k][6 + column][o])};
                transform_w(half[column], from);
            }
            float *to = p->weights + (strip * I + i + k) * TILE_N + o;
            for (size_t row = 0; row < IN; row++) {
                const vec from[3] = {half[0][row], half[1][row], half[2][row]};
                vec line[IN];
                transform_w(line, from);
                for (size_t column = 0; column < IN; column++)
                    *(vec *)(to + (row * IN + column) * p->w_plane) = line[column];
            }
        }
}

// A tile's place: its image and first output.
struct place {
    size_t image, row, column;
};

INLINE struct place find_place(const struct winograd *p, size_t tile)
{
    const size_t row = tile / p->tiles_x;
    return (struct place){row / p->tiles_y, row % p->tiles_y * OUT, tile % p->tiles_x * OUT};
}

// to[point * x_plane + i] for all inputs i.
static void transform_tile(const struct winograd *p, float *to, size_t tile)
{
    const struct convolution *conv = p->conv;
    const size_t I = conv->I;
    const struct place place = find_place(p, tile);
    const float *pixels[IN][IN];
    for (size_t n = 0; n < POINTS; n++) {
        const size_t row = find_pixel(conv->kind, conv->H, place.row + n / IN - 1);
        const size_t column = find_pixel(conv->kind, conv->W, place.column + n % IN - 1);
        pixels[n / IN][n % IN] =
            row == SIZE_MAX || column == SIZE_MAX
                ? p->zeros
                : conv->x + ((place.image * conv->H + row) * conv->W + column) * I;
    }
    for (size_t i = 0; i < I; i += LANES) {
        vec half[IN][IN];
        for (size_t column = 0; column < IN; column++) {
            vec from[IN];
            for (size_t row = 0; row < IN; row++)
                from[row] = load(pixels[row][column] + i);
            transform_x(half[column], from);
        }
        for (size_t row = 0; row < IN; row++) {
            vec from[IN], line[IN];
            for (size_t column = 0; column < IN; column++)
                from[column] = half[column][row];
            transform_x(line, from);
            for (size_t column = 0; column < IN; column++)
                *(vec *)(to + (row * IN + column) * p->x_plane + i) = line[column];
        }
    }
}

// The outputs of a tile, LANES channels from o on; those past the image's sides are dropped.
static void finish_tile(const struct winograd *p, const float *from, size_t tile, size_t o)
{
    const struct convolution *conv = p->conv;
    const struct place place = find_place(p, tile);
    vec half[IN][OUT];
    for (size_t column = 0; column < IN; column++) {
        vec y[IN];
        for (size_t row = 0; row < IN; row++)
            y[row] = *(const vec *)(from + (row * IN + column) * p->y_plane);
        transform_y(half[column], y);
    }
    const vec bias = load(conv->bias + o);
    for (size_t row = 0; row < OUT && place.row + row < conv->out_H; row++) {
        vec y[IN], line[OUT];
        for (size_t column = 0; column < IN; column++)
            y[column] = half[column][row];
        transform_y(line, y);
        const size_t first = (place.image * conv->out_H + place.row + row) * conv->out_W;
        for (size_t column = 0; column < OUT && place.column + column < conv->out_W; column++) {
            const size_t at = (first + place.column + column) * conv->O + o;
            vec value = line[column] + bias;
            if (conv->sum)
                value += load(conv->sum + at);
            *(vec_u *)(conv->y + at) = value;
        }
    }
}

// Tiles first .. first + n - 1.
static void work_block(const struct winograd *p, size_t first, size_t n, float *x, float *y)
{
    const size_t I = p->conv->I, rows = round_up(n, TILE_M);
    for (size_t t = 0; t < n; t++)
        transform_tile(p, x + t * I, first + t);
    for (size_t point = 0; point < POINTS; point++) {
        float *plane = x + point * p->x_plane;
        memset(plane + n * I, 0, (rows - n) * I * sizeof *plane);
        for (size_t k = 0; k < I; k += BLOCK_K) {
            const size_t K = I - k < BLOCK_K ? I - k : BLOCK_K;
            for (size_t strip = 0; strip < p->strips; strip++) {
                const float *w = p->weights + point * p->w_plane + (strip * I + k) * TILE_N;
                float *to = y + (strip * POINTS + point) * p->y_plane;
                for (size_t t = 0; t < rows; t += TILE_M)
                    tile_product(to + t * TILE_N, TILE_N, k > 0, K, plane + t * I + k, I, 1, w);
            }
        }
    }
    for (size_t strip = 0; strip < p->strips; strip++)
        for (size_t t = 0; t < n; t++)
            for (size_t j = 0; j < TILE_N; j += LANES)
                finish_tile(p, y + strip * POINTS * p->y_plane + t * TILE_N + j, first + t,
                            p->o + strip * TILE_N + j);
}

void CPU_FN(winograd)(struct device *device, const struct convolution *conv)
{
    const size_t I = conv->I, O = conv->O, threads = (size_t)device->threads;
    struct winograd p = {.conv = conv,
                         .tiles_x = (conv->out_W + OUT - 1) / OUT,
                         .tiles_y = (conv->out_H + OUT - 1) / OUT};
    // Blocks of tiles, as many as keep all threads busy to the end.
    const size_t tiles = conv->B * p.tiles_x * p.tiles_y;
    const size_t wanted = round_up((tiles + BLOCK_T - 1) / BLOCK_T, threads);
    p.block = round_up((tiles + wanted - 1) / wanted, TILE_M);
    const size_t blocks = (tiles + p.block - 1) / p.block;
    // Planes don't begin at the same place of the cache.
    p.x_plane = p.block * I + 16;
    p.y_plane = p.block * TILE_N + 16;
    const size_t strips = O / TILE_N;
    const size_t most = WEIGHTS / I / TILE_N < 1 ? 1 : WEIGHTS / I / TILE_N;
    p.strips = strips < most ? strips : most;
    p.w_plane = p.strips * I * TILE_N + 16;
    const size_t of_x = POINTS * p.x_plane, of_y = p.strips * POINTS * p.y_plane;
    const size_t of_weights = POINTS * p.w_plane;
    float *scratch = CPU_FN(scratch)(device, I + of_weights + threads * (of_x + of_y));
    if (!scratch)
        return;
    memset(scratch, 0, I * sizeof *scratch);
    p.zeros = scratch;
    p.weights = scratch + I;

#pragma omp parallel num_threads(device->threads) firstprivate(p)
    for (p.o = 0; p.o < O; p.o += p.strips * TILE_N) {
        if (p.strips > (O - p.o) / TILE_N)
            p.strips = (O - p.o) / TILE_N;
#pragma omp for
        for (size_t n = 0; n < p.strips * (I / LANES); n++)
            transform_weights(&p, n / (I / LANES), n % (I / LANES) * LANES);
#pragma omp for schedule(dynamic)
        for (size_t n = 0; n < blocks; n++) {
            const size_t first = n * p.block, left = tiles - first;
            float *x = p.weights + of_weights + (size_t)omp_get_thread_num() * (of_x + of_y);
            work_block(&p, first, left < p.block ? left : p.block, x, x + of_x);
        }
    }
}
