// Splits an image or latent into overlapping tiles and blends the results.
// SPDX-License-Identifier: MIT
#include "lib/model/autoencoder-tiles.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

// Tiles along one axis, all of the same size; the last one ends at the end of the axis.
struct tiles {
    size_t length, size, overlap, n;
};

static struct tiles split_axis(size_t length, size_t size, size_t overlap)
{
    if (length <= size)
        return (struct tiles){length, length, 0, 1};
    size_t step = size - overlap, n = (length - overlap + step - 1) / step;
    return (struct tiles){length, (length + (n - 1) * overlap + n - 1) / n, overlap, n};
}

// The same tiles at a resolution `factor` times finer.
static struct tiles scale_tiles(const struct tiles *t, size_t factor)
{
    return (struct tiles){t->length * factor, t->size * factor, t->overlap * factor, t->n};
}

static size_t tile_start(const struct tiles *t, size_t i)
{
    size_t start = i * (t->size - t->overlap), last = t->length - t->size;
    return start < last ? start : last;
}

// The weights, at offset `at` within tile i, of that tile and of the tile before it. Together with
// the next tile's weight they sum to 1.
static void blend_weights(const struct tiles *t, size_t i, size_t at, float *own, float *before)
{
    size_t start = tile_start(t, i);
    size_t shared = i > 0 ? tile_start(t, i - 1) + t->size - start : 0;
    size_t next = i + 1 < t->n ? tile_start(t, i + 1) - start : t->size;
    *before = at < shared ? 1 - ((float)at + 0.5f) / (float)shared : 0;
    *own = at < next ? 1 - *before : 1 - ((float)(at - next) + 0.5f) / (float)(t->size - next);
}

// The weight of tile (i,j) at (y,x), relative to it and the tiles before it in row order. So each
// tile can be blended into the result as soon as it is made, and none has to be kept.
static float relative_weight(const struct tiles *rows, size_t i, size_t y,
                             const struct tiles *columns, size_t j, size_t x)
{
    float above, row, left, column;
    blend_weights(rows, i, y, &row, &above);
    blend_weights(columns, j, x, &column, &left);
    return above + row * left > 0 ? row * column / (above + row * left + row * column) : 1;
}

// Blends tile (i,j) into planes (C, rows, columns).
static void blend_floats(float *to, const float *tile, size_t C, const struct tiles *rows, size_t i,
                         const struct tiles *columns, size_t j)
{
    for (size_t y = 0; y < rows->size; y++)
        for (size_t x = 0; x < columns->size; x++) {
            float weight = relative_weight(rows, i, y, columns, j, x);
            size_t row = tile_start(rows, i) + y, column = tile_start(columns, j) + x;
            for (size_t c = 0; c < C; c++) {
                float *old = to + (c * rows->length + row) * columns->length + column;
                float new = tile[(c * rows->size + y) * columns->size + x];
                *old = weight < 1 ? *old + weight * (new - *old) : new;
            }
        }
}

// Blends tile (i,j) into an image (rows, columns, 3).
static void blend_pixels(uint8_t *to, const uint8_t *tile, const struct tiles *rows, size_t i,
                         const struct tiles *columns, size_t j)
{
    for (size_t y = 0; y < rows->size; y++)
        for (size_t x = 0; x < columns->size; x++) {
            float weight = relative_weight(rows, i, y, columns, j, x);
            size_t row = tile_start(rows, i) + y, column = tile_start(columns, j) + x;
            uint8_t *old = to + (row * columns->length + column) * 3;
            const uint8_t *new = tile + (y * columns->size + x) * 3;
            for (size_t c = 0; c < 3; c++) {
                float mixed = (float)old[c] + weight * (float)(new[c] - old[c]);
                old[c] = weight < 1 ? (uint8_t)(mixed + 0.5f) : new[c];
            }
        }
}

// How one image is split, and the buffers of one tile.
struct tiling {
    struct autoencoder *ae;
    struct tiles rows, columns;             // of the latent
    struct tiles pixel_rows, pixel_columns; // of the image
    uint8_t *image;
    float *mean, *std; // when decoding, mean holds the latent
};

static int tiling_init(struct tiling *t, struct autoencoder *ae, size_t side, size_t overlap,
                       size_t H, size_t W)
{
    size_t f = ae->downsample;
    assert(side % f == 0 && overlap % f == 0 && side >= 3 * overlap);
    *t = (struct tiling){.ae = ae,
                         .rows = split_axis(H / f, side / f, overlap / f),
                         .columns = split_axis(W / f, side / f, overlap / f)};
    t->pixel_rows = scale_tiles(&t->rows, f);
    t->pixel_columns = scale_tiles(&t->columns, f);
    size_t n = t->rows.size * t->columns.size;
    t->image = mem_new(n * f * f, 3);
    t->mean = mem_new(n * ae->channels, sizeof *t->mean);
    t->std = mem_new(n * ae->channels, sizeof *t->std);
    return t->image && t->mean && t->std ? 0 : -1;
}

static void tiling_free(struct tiling *t)
{
    free(t->image);
    free(t->mean);
    free(t->std);
}

static int encode_tile(struct tiling *t, size_t i, size_t j, const uint8_t *image, float *mean,
                       float *std)
{
    size_t H = t->pixel_rows.size, W = t->pixel_columns.size, C = t->ae->channels;
    size_t row = tile_start(&t->pixel_rows, i), column = tile_start(&t->pixel_columns, j);
    for (size_t y = 0; y < H; y++)
        memcpy(t->image + y * W * 3, image + ((row + y) * t->pixel_columns.length + column) * 3,
               W * 3);
    if (t->ae->encode(t->ae, t->image, 1, H, W, t->mean, t->std) < 0)
        return error_prefix("the tile at row %zu, column %zu of the image", row, column);
    blend_floats(mean, t->mean, C, &t->rows, i, &t->columns, j);
    if (t->ae->spread)
        blend_floats(std, t->std, C, &t->rows, i, &t->columns, j);
    return 0;
}

static int decode_tile(struct tiling *t, size_t i, size_t j, const float *latent, uint8_t *image)
{
    size_t h = t->rows.size, w = t->columns.size;
    size_t row = tile_start(&t->rows, i), column = tile_start(&t->columns, j);
    for (size_t c = 0; c < t->ae->channels; c++)
        for (size_t y = 0; y < h; y++)
            memcpy(t->mean + (c * h + y) * w,
                   latent + (c * t->rows.length + row + y) * t->columns.length + column,
                   w * sizeof *latent);
    if (t->ae->decode(t->ae, t->mean, 1, t->pixel_rows.size, t->pixel_columns.size, t->image) < 0)
        return error_prefix("the tile at row %zu, column %zu of the latent", row, column);
    blend_pixels(image, t->image, &t->pixel_rows, i, &t->pixel_columns, j);
    return 0;
}

int autoencoder_encode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const uint8_t *image, size_t H, size_t W, float *mean, float *std)
{
    struct tiling t;
    int rc = tiling_init(&t, ae, side, overlap, H, W);
    for (size_t i = 0; i < t.rows.n; i++)
        for (size_t j = 0; rc == 0 && j < t.columns.n; j++)
            rc = encode_tile(&t, i, j, image, mean, std);
    tiling_free(&t);
    return rc;
}

int autoencoder_decode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const float *latent, size_t H, size_t W, uint8_t *image)
{
    struct tiling t;
    int rc = tiling_init(&t, ae, side, overlap, H, W);
    for (size_t i = 0; i < t.rows.n; i++)
        for (size_t j = 0; rc == 0 && j < t.columns.n; j++)
            rc = decode_tile(&t, i, j, latent, image);
    tiling_free(&t);
    return rc;
}
