// 3x3 convolutions by Winograd's minimal filtering (Lavin and Gray, "Fast algorithms for
// convolutional neural networks", 2016). SPDX-License-Identifier: MIT
//
// Along each side, a tile of x becomes some numbers a channel ("points"), the weights as many a
// pair of channels; their products, summed over the channels, give the outputs of the tile. In two
// dimensions that is a matrix product (tiles,I) (I,O) for every pair of points.
// - CONV_SAME: 6 points, not 12 multiplications, for 4 outputs: values of polynomials at 0,
//   +-sqrt(1/2), +-sqrt(2) and infinity.
// - CONV_UP: on doubled pixels the three taps act as two, on the even outputs as w0, w1 + w2 and on
//   the odd ones as w0 + w1, w2. 5 points for 4 outputs of each: +-1/2, +-3/2 and infinity.
// - CONV_DOWN: two of the taps see the even pixels: 5 points for 4 outputs, as above. The one
//   between sees the odd ones: 4 multiplications.
//
// Rounding: the terms that make up an output sum to at most 69 times (CONV_SAME), 61 times
// (CONV_UP) or 24 times (CONV_DOWN) what those of the direct sum do, where pixels and weights have
// one size. With the usual points 0, +-1, +-2 and infinity it would be 256 times. For normal values
// the error is 1.1e-6, 7e-7 and 5.5e-7 of the norm of y, with 128 inputs or 512; that of direct
// sums is 3e-7.
//
// An output depends on its tile alone, and a tile on its place in its image: not on the other
// images or the number of threads.
#include <omp.h>

#include "kernels/cpu/convolution.h"
#include "kernels/cpu/product.h"

#define BLOCK_K 128
#define BLOCK_T 66 // tiles at once: a little over a power of two, a multiple of TILE_M
#define WEIGHTS ((size_t)9 << 19) // transformed weights that are made at once
#define MOST    10                // of what `sides` counts

// Along a side of a tile: pixels that it sees, pixels of x to the next tile, points, outputs.
struct side {
    size_t in, step, points, out;
};
static const struct side sides[] = {
    [CONV_SAME] = {6, 4, 6, 4}, [CONV_DOWN] = {9, 8, 9, 4}, [CONV_UP] = {6, 4, 10, 8}};

struct winograd {
    const struct convolution *conv;
    size_t points;           // of both sides: (points,points)
    size_t tiles_x, tiles_y; // of an image
    size_t block;            // tiles of a block, a multiple of TILE_M
    size_t x_plane, w_plane,
        y_plane;        // floats between the parts, one a point, of what is transformed
    size_t o, strips;   // the channels in work: their first, and TILE_N times `strips` of them
    float *weights;     // (points) planes (strips,I,TILE_N)
    const float *zeros; // (I)
};

INLINE vec load(const float *at)
{
    return *(const vec_u *)at;
}

// Three taps, 4 outputs: 6 points.
#define ROOT_HALF 0.70710678f
#define ROOT_TWO  1.41421356f

INLINE void transform_x3(vec to[6], const vec x[6])
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

INLINE void transform_w3(vec to[6], const vec w[3])
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

INLINE void transform_y3(vec to[4], const vec y[6])
{
    const vec even_a = y[1] + y[2], odd_a = ROOT_HALF * (y[1] - y[2]);
    const vec even_b = y[3] + y[4], odd_b = ROOT_TWO * (y[3] - y[4]);
    to[0] = y[0] + even_a + even_b;
    to[1] = odd_a + odd_b;
    to[2] = vec_multiply_add(2, even_b, 0.5f * even_a);
    to[3] = vec_multiply_add(2, odd_b, vec_multiply_add(0.5f, odd_a, y[5]));
}

// Two taps, 4 outputs: 5 points.
INLINE void transform_x2(vec to[5], const vec x0, const vec x1, const vec x2, const vec x3,
                         const vec x4)
{
    const vec even_a = vec_multiply_add(-2.25f, x0, x2);
    const vec even_b = vec_multiply_add(-0.25f, x0, x2);
    const vec odd_a = 2.0f * vec_multiply_add(-2.25f, x1, x3);
    const vec odd_b = 2.0f / 3 * vec_multiply_add(-0.25f, x1, x3);
    to[0] = even_a + odd_a;
    to[1] = even_a - odd_a;
    to[2] = even_b + odd_b;
    to[3] = even_b - odd_b;
    to[4] = vec_multiply_add(0.5625f, x0, vec_multiply_add(-2.5f, x2, x4));
}

INLINE void transform_w2(vec to[5], vec w0, vec w1)
{
    to[0] = -0.25f * vec_multiply_add(0.5f, w1, w0);
    to[1] = -0.25f * vec_multiply_add(-0.5f, w1, w0);
    to[2] = 0.25f * vec_multiply_add(1.5f, w1, w0);
    to[3] = 0.25f * vec_multiply_add(-1.5f, w1, w0);
    to[4] = w1;
}

INLINE void transform_y2(vec to[4], const vec y[5])
{
    const vec even_a = y[0] + y[1], odd_a = y[0] - y[1];
    const vec even_b = y[2] + y[3], odd_b = y[2] - y[3];
    to[0] = even_a + even_b;
    to[1] = vec_multiply_add(1.5f, odd_b, 0.5f * odd_a);
    to[2] = vec_multiply_add(2.25f, even_b, 0.25f * even_a);
    to[3] = vec_multiply_add(3.375f, odd_b, vec_multiply_add(0.125f, odd_a, y[4]));
}

INLINE void transform_x(enum conv_kind kind, vec *to, const vec *x)
{
    if (kind == CONV_SAME) {
        transform_x3(to, x);
    } else if (kind == CONV_DOWN) {
        transform_x2(to, x[0], x[2], x[4], x[6], x[8]);
        to[5] = x[1], to[6] = x[3], to[7] = x[5], to[8] = x[7];
    } else {
        transform_x2(to, x[0], x[1], x[2], x[3], x[4]);
        transform_x2(to + 5, x[1], x[2], x[3], x[4], x[5]);
    }
}

INLINE void transform_w(enum conv_kind kind, vec *to, const vec w[3])
{
    if (kind == CONV_SAME) {
        transform_w3(to, w);
    } else if (kind == CONV_DOWN) {
        transform_w2(to, w[0], w[2]);
        to[5] = to[6] = to[7] = to[8] = w[1];
    } else {
        transform_w2(to, w[0], w[1] + w[2]);
        transform_w2(to + 5, w[0] + w[1], w[2]);
    }
}

INLINE void transform_y(enum conv_kind kind, vec *to, const vec *y)
{
    if (kind == CONV_SAME) {
        transform_y3(to, y);
        return;
    }
    vec even[4], odd[4];
    transform_y2(even, y);
    if (kind == CONV_UP)
        transform_y2(odd, y + 5);
    for (size_t n = 0; n < 4; n++)
        if (kind == CONV_DOWN)
            to[n] = even[n] + y[5 + n];
        else
            to[2 * n] = even[n], to[2 * n + 1] = odd[n];
}

// Inputs i .. i + LANES - 1 to the outputs of one strip.
INLINE void transform_weights(const struct winograd *p, enum conv_kind kind, size_t strip, size_t i)
{
    const size_t I = p->conv->I, points = sides[kind].points;
    const float *w = p->conv->w + (p->o + strip * TILE_N) * 9 * I + i;
    float taps[LANES][9][TILE_N] __attribute__((aligned(64)));
    for (size_t tap = 0; tap < 9; tap++)
        for (size_t o = 0; o < TILE_N; o++)
            for (size_t k = 0; k < LANES; k++)
                taps[k][tap][o] = w[(o * 9 + tap) * I + k];
    for (size_t k = 0; k < LANES; k++)
        for (size_t o = 0; o < TILE_N; o += LANES) {
            vec half[3][MOST];
            for (size_t column = 0; column < 3; column++) {
                const vec from[3] = {load(&taps[k][column][o]), load(&taps[k][3 + column][o]),
                                     load(&taps[k][6 + column][o])};
                transform_w(kind, half[column], from);
            }
            float *to = p->weights + (strip * I + i + k) * TILE_N + o;
            for (size_t row = 0; row < points; row++) {
                const vec from[3] = {half[0][row], half[1][row], half[2][row]};
                vec line[MOST];
                transform_w(kind, line, from);
#pragma GCC unroll 10
                for (size_t column = 0; column < points; column++, to += p->w_plane)
                    *(vec *)to = line[column];
            }
        }
}

// A tile's place: its image, row and column.
struct place {
    size_t image, row, column;
};

INLINE struct place find_place(const struct winograd *p, size_t tile)
{
    const size_t row = tile / p->tiles_x;
    return (struct place){row / p->tiles_y, row % p->tiles_y, tile % p->tiles_x};
}

// to[point * x_plane + i] for all inputs i.
INLINE void transform_tile(const struct winograd *p, enum conv_kind kind, float *to, size_t tile)
{
    const struct convolution *conv = p->conv;
    const size_t I = conv->I, in = sides[kind].in, points = sides[kind].points;
    const size_t step = sides[kind].step, before = kind == CONV_DOWN ? 0 : 1;
    const struct place place = find_place(p, tile);
    const float *pixels[MOST][MOST];
    for (size_t i = 0; i < in; i++)
        for (size_t j = 0; j < in; j++) {
            // Before the first: a huge number.
            const size_t row = place.row * step + i - before;
            const size_t column = place.column * step + j - before;
            pixels[i][j] = row < conv->H && column < conv->W
                               ? conv->x + ((place.image * conv->H + row) * conv->W + column) * I
                               : p->zeros;
        }
    for (size_t i = 0; i < I; i += LANES) {
        vec half[MOST][MOST];
        for (size_t column = 0; column < in; column++) {
            vec from[MOST];
#pragma GCC unroll 10
            for (size_t row = 0; row < in; row++) {
                from[row] = load(pixels[row][column] + i);
                // The next tile's pixel is fetched meanwhile; past the end of x that does no harm.
                if (column >= in - step && i % TILE_N == 0)
                    __builtin_prefetch(pixels[row][column] + step * I + i, 0, 2);
            }
            transform_x(kind, half[column], from);
        }
        float *line_to = to + i;
        for (size_t row = 0; row < points; row++) {
            vec from[MOST], line[MOST];
#pragma GCC unroll 10
            for (size_t column = 0; column < in; column++)
                from[column] = half[column][row];
            transform_x(kind, line, from);
#pragma GCC unroll 10
            for (size_t column = 0; column < points; column++, line_to += p->x_plane)
                *(vec *)line_to = line[column];
        }
    }
}

// The outputs of a tile, LANES channels from o on; those past the image's sides are dropped.
INLINE void finish_tile(const struct winograd *p, enum conv_kind kind, const float *from,
                        size_t tile, size_t o)
{
    const struct convolution *conv = p->conv;
    const size_t points = sides[kind].points, out = sides[kind].out, O = conv->O;
    const struct place place = find_place(p, tile);
    vec half[MOST][MOST];
    for (size_t column = 0; column < points; column++) {
        vec y[MOST];
#pragma GCC unroll 10
        for (size_t row = 0; row < points; row++)
            y[row] = *(const vec *)(from + (row * points + column) * p->y_plane);
        transform_y(kind, half[column], y);
    }
    const vec bias = load(conv->bias + o);
    const size_t rows = conv->out_H - place.row * out, columns = conv->out_W - place.column * out;
    const size_t first =
        ((place.image * conv->out_H + place.row * out) * conv->out_W + place.column * out) * O + o;
    for (size_t row = 0; row < out && row < rows; row++) {
        vec y[MOST], line[MOST];
#pragma GCC unroll 10
        for (size_t column = 0; column < points; column++)
            y[column] = half[column][row];
        transform_y(kind, line, y);
        for (size_t column = 0; column < out && column < columns; column++) {
            const size_t at = first + (row * conv->out_W + column) * O;
            if (o % TILE_N == 0) { // the next tile's outputs
                __builtin_prefetch(conv->y + at + out * O, 1);
                if (conv->sum && conv->sum != conv->y)
                    __builtin_prefetch(conv->sum + at + out * O);
            }
            vec value = line[column] + bias;
            if (conv->sum)
                value += load(conv->sum + at);
            *(vec_u *)(conv->y + at) = value;
        }
    }
}

// y (strips) planes of all points (block,TILE_N) = x w, for n tiles.
static void multiply(const struct winograd *p, size_t n, float *x, float *y)
{
    const size_t I = p->conv->I, rows = round_up(n, TILE_M);
    for (size_t point = 0; point < p->points; point++) {
        float *plane = x + point * p->x_plane;
        memset(plane + n * I, 0, (rows - n) * I * sizeof *plane);
        for (size_t k = 0; k < I; k += BLOCK_K) {
            const size_t K = I - k < BLOCK_K ? I - k : BLOCK_K;
            for (size_t strip = 0; strip < p->strips; strip++) {
                const float *w = p->weights + point * p->w_plane + (strip * I + k) * TILE_N;
                const float *next = w + I * TILE_N; // fetched meanwhile, a share with each product
                const size_t share = K * TILE_N * TILE_M / rows;
                float *to = y + (strip * p->points + point) * p->y_plane;
                for (size_t t = 0; t < rows; t += TILE_M) {
                    for (size_t ahead = 0; ahead < share; ahead += 16)
                        __builtin_prefetch(next + t / TILE_M * share + ahead);
                    tile_product(to + t * TILE_N, TILE_N, k > 0, K, plane + t * I + k, I, 1, w);
                }
            }
        }
    }
}

// Tiles first .. first + n - 1, whose inputs are in x already if `transformed`.
INLINE void work_block(const struct winograd *p, enum conv_kind kind, size_t first, size_t n,
                       bool transformed, float *x, float *y)
{
    for (size_t t = 0; t < n && !transformed; t++)
        transform_tile(p, kind, x + t * p->conv->I, first + t);
    multiply(p, n, x, y);
    for (size_t t = 0; t < n; t++)
        for (size_t strip = 0; strip < p->strips; strip++)
            for (size_t j = 0; j < TILE_N; j += LANES)
                finish_tile(p, kind, y + strip * p->points * p->y_plane + t * TILE_N + j, first + t,
                            p->o + strip * TILE_N + j);
}

// Both for the kind at hand, with all that `sides` says known to the compiler.
static void transform_any_weights(const struct winograd *p, size_t strip, size_t i)
{
    if (p->conv->kind == CONV_SAME)
        transform_weights(p, CONV_SAME, strip, i);
    else if (p->conv->kind == CONV_DOWN)
        transform_weights(p, CONV_DOWN, strip, i);
    else
        transform_weights(p, CONV_UP, strip, i);
}

static void work_any_block(const struct winograd *p, size_t first, size_t n, bool transformed,
                           float *x, float *y)
{
    if (p->conv->kind == CONV_SAME)
        work_block(p, CONV_SAME, first, n, transformed, x, y);
    else if (p->conv->kind == CONV_DOWN)
        work_block(p, CONV_DOWN, first, n, transformed, x, y);
    else
        work_block(p, CONV_UP, first, n, transformed, x, y);
}

void CPU_FN(winograd)(struct device *device, const struct convolution *conv)
{
    const size_t I = conv->I, O = conv->O, threads = (size_t)device->threads;
    const struct side side = sides[conv->kind];
    struct winograd p = {.conv = conv,
                         .points = side.points * side.points,
                         .tiles_x = (conv->out_W + side.out - 1) / side.out,
                         .tiles_y = (conv->out_H + side.out - 1) / side.out};
    // Blocks of tiles, as many as keep all threads busy to the end.
    const size_t tiles = conv->B * p.tiles_x * p.tiles_y;
    const size_t wanted = round_up((tiles + BLOCK_T - 1) / BLOCK_T, threads);
    p.block = round_up((tiles + wanted - 1) / wanted, TILE_M);
    const size_t blocks = (tiles + p.block - 1) / p.block;
    // Planes don't begin at the same place of the cache.
    p.x_plane = p.block * I + 16;
    p.y_plane = p.block * TILE_N + 16;
    const size_t strips = O / TILE_N, of_strip = p.points * I * TILE_N;
    const size_t most = WEIGHTS < of_strip ? 1 : WEIGHTS / of_strip;
    p.strips = strips < most ? strips : most;
    p.w_plane = p.strips * I * TILE_N + 16;
    const size_t of_x = p.points * p.x_plane, of_y = p.strips * p.points * p.y_plane;
    const size_t of_weights = p.points * p.w_plane;
    float *scratch = CPU_FN(scratch)(device, I + of_weights + threads * (of_x + of_y));
    if (!scratch)
        return;
    memset(scratch, 0, I * sizeof *scratch);
    p.zeros = scratch;
    p.weights = scratch + I;

    size_t held = SIZE_MAX; // the block of which x holds the transforms
#pragma omp parallel num_threads(device->threads) firstprivate(p, held)
    for (p.o = 0; p.o < O; p.o += p.strips * TILE_N) {
        if (p.strips > (O - p.o) / TILE_N)
            p.strips = (O - p.o) / TILE_N;
#pragma omp for
        for (size_t n = 0; n < p.strips * (I / LANES); n++)
            transform_any_weights(&p, n / (I / LANES), n % (I / LANES) * LANES);
#pragma omp for schedule(dynamic)
        for (size_t n = 0; n < blocks; n++) {
            const size_t first = n * p.block, left = tiles - first;
            float *x = p.weights + of_weights + (size_t)omp_get_thread_num() * (of_x + of_y);
            work_any_block(&p, first, left < p.block ? left : p.block, n == held, x, x + of_x);
            held = n;
        }
    }
}
