// 3x3 convolutions by Winograd's minimal filtering (Lavin and Gray, "Fast algorithms for
// convolutional neural networks", 2016). SPDX-License-Identifier: MIT
//
// The image is cut into small tiles. In one dimension, a transform turns the pixels of a tile into
// one number per channel and interpolation point, and the three taps of the weights into one number
// per pair of channels and point. Their products, summed over the input channels, are transformed
// back into the outputs of the tile. In two dimensions that is one matrix product (tiles,I) (I,O)
// for every pair of points.
// - CONV_SAME: 6 points give 4 outputs, with 6 multiplications in place of 12. The points are 0,
//   +-sqrt(1/2), +-sqrt(2) and infinity.
// - CONV_UP: as every pixel is doubled, three taps act as two: w0 and w1 + w2 on the even outputs,
//   w0 + w1 and w2 on the odd ones. 5 points give 4 outputs of each kind: +-1/2, +-3/2, infinity.
// - CONV_DOWN: the outer two taps read the even pixels: 5 points give 4 outputs, as above. The
//   middle tap reads the odd pixels: 4 plain multiplications.
//
// Rounding: if all pixels and weights have the same magnitude, the magnitudes of the terms that
// make up an output sum to at most 69 times (CONV_SAME), 61 times (CONV_UP) or 24 times (CONV_DOWN)
// those of the direct sum. With the usual points 0, +-1, +-2 and infinity it would be 256 times.
// For normally distributed values the error is 1.1e-6, 7e-7 and 5.5e-7 of the norm of y, with 128
// or 512 input channels; the direct sum's is 3e-7.
//
// An output depends only on its tile, and the tiling only on the image's size: the other images of
// the batch and the number of threads don't change a bit of it.
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/tile.h"

#define BLOCK_K   128
#define TILES_MAX ((64 / TILE_M + 1) * TILE_M) // tiles of a block, a little over a power of two
#define WEIGHTS   ((size_t)9 << 19) // transformed weights at a time, but at least a panel
#define SIDE_MAX  10                // the largest count in `tilings`

// One dimension of a tile: pixels it reads, pixels of x from one tile to the next, points, outputs.
struct winograd_sizes {
    size_t in, step, points, out;
};
static const struct winograd_sizes tilings[] = {
    [CONV_SAME] = {6, 4, 6, 4}, [CONV_DOWN] = {9, 8, 9, 4}, [CONV_UP] = {6, 4, 10, 8}};

struct winograd {
    const struct convolution *conv;
    size_t points;           // pairs of points
    size_t tiles_x, tiles_y; // of an image
    size_t block;            // tiles of a block, a multiple of TILE_M
    // Transformed pixels, weights and outputs have one plane for each pair of points. Floats from
    // one plane to the next:
    size_t x_plane, w_plane, y_plane;
    size_t o, panels;  // the output channels at work: o .. o + panels * TILE_N - 1
    float *weights;    // (points) planes (panels,I,TILE_N)
    const real *zeros; // (I): the padding around the image
};

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

// Transforms the weights from input channels i .. i + LANES - 1 to the outputs of one panel.
INLINE void transform_weights(const struct winograd *p, enum conv_kind kind, size_t panel, size_t i)
{
    const size_t I = p->conv->I, points = tilings[kind].points;
    const real *w = p->conv->w + (p->o + panel * TILE_N) * 9 * I + i;
    float taps[LANES][9][TILE_N] __attribute__((aligned(64)));
    for (size_t tap = 0; tap < 9; tap++)
        for (size_t o = 0; o < TILE_N; o++)
            for (size_t k = 0; k < LANES; k++)
                taps[k][tap][o] = to_float(w[(o * 9 + tap) * I + k]);
    for (size_t k = 0; k < LANES; k++)
        for (size_t o = 0; o < TILE_N; o += LANES) {
            vec half[3][SIDE_MAX];
            for (size_t column = 0; column < 3; column++) {
                const vec from[3] = {vec_load(&taps[k][column][o]),
                                     vec_load(&taps[k][3 + column][o]),
                                     vec_load(&taps[k][6 + column][o])};
                transform_w(kind, half[column], from);
            }
            float *to = p->weights + (panel * I + i + k) * TILE_N + o;
            for (size_t row = 0; row < points; row++) {
                const vec from[3] = {half[0][row], half[1][row], half[2][row]};
                vec line[SIDE_MAX];
                transform_w(kind, line, from);
#pragma GCC unroll 10
                for (size_t column = 0; column < points; column++, to += p->w_plane) {
                    *(vec *)to = line[column];
                    __builtin_prefetch(to + TILE_N, 1, 2); // of the next input channel
                }
            }
        }
}

// The image of a tile, and its row and column among the tiles of the image.
struct tile_position {
    size_t image, row, column;
};

INLINE struct tile_position find_tile(const struct winograd *p, size_t tile)
{
    const size_t row = tile / p->tiles_x;
    return (struct tile_position){row / p->tiles_y, row % p->tiles_y, tile % p->tiles_x};
}

// Where a tile's transformed pixels of the LANES channels from i on are in a plane of x, which is
// (block/TILE_M,I/LANES,TILE_M,LANES): the products read it from start to end.
INLINE size_t x_offset(const struct winograd *p, size_t tile, size_t i)
{
    return tile / TILE_M * TILE_M * p->conv->I + i * TILE_M + tile % TILE_M * LANES;
}

// Transforms the pixels of tile `first` + t of all images to x, as tile t of the block.
INLINE void transform_tile(const struct winograd *p, enum conv_kind kind, float *x, size_t first,
                           size_t t)
{
    const struct convolution *conv = p->conv;
    const size_t I = conv->I, in = tilings[kind].in, points = tilings[kind].points;
    const size_t step = tilings[kind].step, before = conv->padding;
    const struct tile_position at = find_tile(p, first + t);
    const real *pixels[SIDE_MAX][SIDE_MAX];
    for (size_t i = 0; i < in; i++)
        for (size_t j = 0; j < in; j++) {
            // Underflow wraps; the bounds check below catches it.
            const size_t row = at.row * step + i - before;
            const size_t column = at.column * step + j - before;
            pixels[i][j] = row < conv->H && column < conv->W
                               ? conv->x + ((at.image * conv->H + row) * conv->W + column) * I
                               : p->zeros;
        }
    for (size_t i = 0; i < I; i += LANES) {
        vec half[SIDE_MAX][SIDE_MAX];
        for (size_t column = 0; column < in; column++) {
            vec from[SIDE_MAX];
#pragma GCC unroll 10
            for (size_t row = 0; row < in; row++) {
                from[row] = vec_load_real(pixels[row][column] + i);
                // Prefetches the next tile's pixel. An address past the end of x does no harm.
                if (column >= in - step && i % LINE == 0)
                    __builtin_prefetch(pixels[row][column] + step * I + i, 0, 2);
            }
            transform_x(kind, half[column], from);
        }
        float *line_to = x + x_offset(p, t, i);
        for (size_t row = 0; row < points; row++) {
            vec from[SIDE_MAX], line[SIDE_MAX];
#pragma GCC unroll 10
            for (size_t column = 0; column < in; column++)
                from[column] = half[column][row];
            transform_x(kind, line, from);
#pragma GCC unroll 10
            for (size_t column = 0; column < points; column++, line_to += p->x_plane) {
                *(vec *)line_to = line[column];
                __builtin_prefetch(line_to + TILE_M * LANES, 1, 2); // of the next channels
            }
        }
    }
}

// Transforms LANES channels of a tile, from channel o on, into its outputs. Those past the right
// and lower edges of the image are dropped.
INLINE void transform_outputs(const struct winograd *p, enum conv_kind kind, const float *from,
                              size_t tile, size_t o)
{
    const struct convolution *conv = p->conv;
    const size_t points = tilings[kind].points, out = tilings[kind].out, y_row = conv->y_row;
    const struct tile_position at = find_tile(p, tile);
    vec half[SIDE_MAX][SIDE_MAX];
    for (size_t column = 0; column < points; column++) {
        vec y[SIDE_MAX];
#pragma GCC unroll 10
        for (size_t row = 0; row < points; row++) {
            const float *plane = from + (row * points + column) * p->y_plane;
            y[row] = *(const vec *)plane;
            __builtin_prefetch(plane + TILE_N, 0, 2); // of the next tile
        }
        transform_y(kind, half[column], y);
    }
    const vec bias = vec_load_real(conv->bias + o);
    const size_t rows = conv->out_H - at.row * out, columns = conv->out_W - at.column * out;
    const size_t first =
        ((at.image * conv->out_H + at.row * out) * conv->out_W + at.column * out) * y_row + o;
    for (size_t row = 0; row < out && row < rows; row++) {
        vec y[SIDE_MAX], line[SIDE_MAX];
#pragma GCC unroll 10
        for (size_t column = 0; column < points; column++)
            y[column] = half[column][row];
        transform_y(kind, line, y);
        for (size_t column = 0; column < out && column < columns; column++) {
            const size_t offset = first + (row * conv->out_W + column) * y_row;
            if (o % LINE == 0) { // the next tile's outputs
                __builtin_prefetch(conv->y + offset + out * y_row, 1);
                if (conv->sum && conv->sum != conv->y)
                    __builtin_prefetch(conv->sum + offset + out * y_row);
            }
            vec value = line[column] + bias;
            if (conv->sum)
                value += vec_load_real(conv->sum + offset);
            if (conv->relu)
                value = vec_max(value, (vec){0});
            vec_store_real(conv->y + offset, value);
        }
    }
}

// y (TILE_M,TILE_N) = x w, or += if `add`: x (K/LANES,TILE_M,LANES), w (K,TILE_N). With each k a
// line at `ahead` is prefetched, and `ahead` moves on by ahead_step floats. Not inlined: in a
// larger function the compiler runs out of registers.
__attribute__((noinline)) static void multiply_point(float *y, bool add, size_t K, const float *x,
                                                     const float *w, const float *ahead,
                                                     size_t ahead_step)
{
    vec sums[TILE_M][2];
    clear_sums(sums);
    for (size_t k = 0; k < K; k += LANES, x += TILE_M * LANES)
#pragma GCC unroll 4
        for (size_t i = 0; i < LANES; i++, w += TILE_N, ahead += ahead_step) {
            __builtin_prefetch(ahead, 0, 2);
            add_products(sums, false, x + i, LANES, w);
        }
    store_sums(y, TILE_N, sums, add ? y : NULL, NULL);
}

// The matrix products of n tiles, one for each pair of points: y = x weights.
// x (points) planes; y (panels,points) planes (block,TILE_N).
static void multiply_points(const struct winograd *p, size_t n, float *x, float *y)
{
    const size_t I = p->conv->I, rows = round_up(n, TILE_M);
    const size_t ahead_step = divide_up(TILE_N, rows / TILE_M);
    for (size_t point = 0; point < p->points; point++) {
        float *plane = x + point * p->x_plane;
        for (size_t t = n; t < rows; t++)
            for (size_t i = 0; i < I; i += LANES)
                *(vec *)(plane + x_offset(p, t, i)) = vec_of(0);
        for (size_t k = 0; k < I; k += BLOCK_K) {
            const size_t K = min(I - k, BLOCK_K);
            for (size_t panel = 0; panel < p->panels; panel++) {
                const float *w = p->weights + point * p->w_plane + (panel * I + k) * TILE_N;
                float *to = y + (panel * p->points + point) * p->y_plane;
                // The tiles together prefetch the weights of the next panel.
                const float *ahead = w + I * TILE_N;
                for (size_t t = 0; t < rows; t += TILE_M, ahead += K * ahead_step)
                    multiply_point(to + t * TILE_N, k > 0, K, plane + x_offset(p, t, k), w, ahead,
                                   ahead_step);
            }
        }
    }
}

// Convolves tiles first .. first + n - 1. If `transformed`, x holds their transformed pixels
// already.
INLINE void convolve_tiles(const struct winograd *p, enum conv_kind kind, size_t first, size_t n,
                           bool transformed, float *x, float *y)
{
    for (size_t t = 0; t < n && !transformed; t++)
        transform_tile(p, kind, x, first, t);
    multiply_points(p, n, x, y);
    for (size_t t = 0; t < n; t++)
        for (size_t panel = 0; panel < p->panels; panel++)
            for (size_t j = 0; j < TILE_N; j += LANES)
                transform_outputs(p, kind, y + panel * p->points * p->y_plane + t * TILE_N + j,
                                  first + t, p->o + panel * TILE_N + j);
}

// transform_weights and convolve_tiles with the kind, and so all of `tilings`, known to the
// compiler.
static void transform_weights_of_kind(const struct winograd *p, size_t panel, size_t i)
{
    if (p->conv->kind == CONV_SAME)
        transform_weights(p, CONV_SAME, panel, i);
    else if (p->conv->kind == CONV_DOWN)
        transform_weights(p, CONV_DOWN, panel, i);
    else
        transform_weights(p, CONV_UP, panel, i);
}

static void convolve_tiles_of_kind(const struct winograd *p, size_t first, size_t n,
                                   bool transformed, float *x, float *y)
{
    if (p->conv->kind == CONV_SAME)
        convolve_tiles(p, CONV_SAME, first, n, transformed, x, y);
    else if (p->conv->kind == CONV_DOWN)
        convolve_tiles(p, CONV_DOWN, first, n, transformed, x, y);
    else
        convolve_tiles(p, CONV_UP, first, n, transformed, x, y);
}

// What all blocks of tiles share, and the members' working memory.
struct winograd_call {
    struct winograd p;
    size_t tiles;
    float *own; // (threads,OWN_HEAD + x_size + y_size): the block that x holds transformed, x, y
    size_t x_size, own_size;
};

#define OWN_HEAD 16 // floats before x, of which a size_t takes the first

static void transform_weights_of_panels(const void *context, struct team_range range)
{
    const struct winograd *p = &((const struct winograd_call *)context)->p;
    const size_t steps = p->conv->I / LANES;
    for (size_t n = range.first; n < range.end; n++)
        transform_weights_of_kind(p, n / steps, n % steps * LANES);
}

static void convolve_blocks(const void *context, struct team_range range)
{
    const struct winograd_call *c = context;
    float *own = c->own + range.member * c->own_size, *x = own + OWN_HEAD;
    size_t *block_in_x = (size_t *)(void *)own;
    for (size_t n = range.first; n < range.end; n++) {
        const size_t first = n * c->p.block, count = min(c->tiles - first, c->p.block);
        convolve_tiles_of_kind(&c->p, first, count, n == *block_in_x, x, x + c->x_size);
        *block_in_x = n;
    }
}

void CPU_FN(winograd)(struct device *device, const struct convolution *conv)
{
    const size_t I = conv->I, O = conv->O, threads = (size_t)device->threads;
    const struct winograd_sizes tiling = tilings[conv->kind];
    struct winograd p = {.conv = conv,
                         .points = tiling.points * tiling.points,
                         .tiles_x = divide_up(conv->out_W, tiling.out),
                         .tiles_y = divide_up(conv->out_H, tiling.out)};
    // The tiles are cut into blocks, as many as keep all threads busy to the end.
    const size_t tiles = conv->B * p.tiles_x * p.tiles_y;
    const size_t wanted = round_up(divide_up(tiles, TILES_MAX), threads);
    p.block = round_up(divide_up(tiles, wanted), TILE_M);
    const size_t blocks = divide_up(tiles, p.block);
    // The line more keeps planes from starting at the same set of the cache.
    p.x_plane = p.block * I + LINE;
    p.y_plane = p.block * TILE_N + LINE;
    const size_t panels = O / TILE_N, panel_size = p.points * I * TILE_N;
    const size_t panels_max = WEIGHTS < panel_size ? 1 : WEIGHTS / panel_size;
    p.panels = min(panels, panels_max);
    p.w_plane = p.panels * I * TILE_N + LINE;
    const size_t x_size = p.points * p.x_plane, y_size = p.panels * p.points * p.y_plane;
    const size_t own_size = OWN_HEAD + x_size + y_size;
    const size_t weights_size = p.points * p.w_plane;
    float *scratch = ISA_FN(scratch)(device, I + weights_size + threads * own_size);
    if (!scratch)
        return;
    memset(scratch, 0, I * sizeof *scratch);
    p.zeros = (const real *)scratch;
    p.weights = scratch + I;

    struct winograd_call c = {p, tiles, p.weights + weights_size, x_size, own_size};
    for (size_t i = 0; i < threads; i++)
        *(size_t *)(void *)(c.own + i * own_size) = SIZE_MAX;
    for (; c.p.o < O; c.p.o += c.p.panels * TILE_N) {
        c.p.panels = min(c.p.panels, (O - c.p.o) / TILE_N);
        team_for(device->team, c.p.panels * (I / LANES), 4, transform_weights_of_panels, &c);
        team_for(device->team, blocks, 1, convolve_blocks, &c);
    }
}
