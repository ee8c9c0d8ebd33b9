// Overlapping tiles, which fade into each other. SPDX-License-Identifier: MIT
#include "lib/model/autoencoder-tiles.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

// Tiles along one side, all of one size; the last ends where the side does.
struct tiles {
    size_t length, size, overlap, n;
};

static struct tiles split(size_t length, size_t size, size_t overlap)
{
    if (length <= size)
        return (struct tiles){length, length, 0, 1};
    size_t step = size - overlap, n = (length - overlap + step - 1) / step;
    return (struct tiles){length, (length + (n - 1) * overlap + n - 1) / n, overlap, n};
}

// The same tiles where each unit is `factor` finer ones.
static struct tiles scaled(const struct tiles *t, size_t factor)
{
    return (struct tiles){t->length * factor, t->size * factor, t->overlap * factor, t->n};
}

static size_t start_of(const struct tiles *t, size_t i)
{
    size_t start = i * (t->size - t->overlap), last = t->length - t->size;
    return start < last ? start : last;
}

// Of tile i at offset `at` within it: its own weight, and that of the tile before it. Together with
// the next tile's they are 1.
static void weigh(const struct tiles *t, size_t i, size_t at, float *own, float *before)
{
    size_t start = start_of(t, i);
    size_t shared = i > 0 ? start_of(t, i - 1) + t->size - start : 0;
    size_t next = i + 1 < t->n ? start_of(t, i + 1) - start : t->size;
    *before = at < shared ? 1 - ((float)at + 0.5f) / (float)shared : 0;
    *own = at < next ? 1 - *before : 1 - ((float)(at - next) + 0.5f) / (float)(t->size - next);
}

// The share that a value of tile (i,j) has in the mean of it and all before it, row by row. Each
// tile can so be added to the result at once, and none has to be kept.
static float share(const struct tiles *rows, size_t i, size_t y, const struct tiles *columns,
                   size_t j, size_t x)
{
    float above, row, left, column;
    weigh(rows, i, y, &row, &above);
    weigh(columns, j, x, &column, &left);
    return above + row * left > 0 ? row * column / (above + row * left + row * column) : 1;
}

// Adds tile (i,j) to planes (C, rows, columns).
static void blend_floats(float *to, const float *tile, size_t C, const struct tiles *rows, size_t i,
                         const struct tiles *columns, size_t j)
{
    for (size_t y = 0; y < rows->size; y++)
        for (size_t x = 0; x < columns->size; x++) {
            float part = share(rows, i, y, columns, j, x);
            size_t row = start_of(rows, i) + y, column = start_of(columns, j) + x;
            for (size_t c = 0; c < C; c++) {
                float *old = to + (c * rows->length + row) * columns->length + column;
                float new = tile[(c * rows->size + y) * columns->size + x];
                *old = part < 1 ? *old + part * (new - *old) : new;
            }
        }
}

// Adds tile (i,j) to an image (rows, columns, 3).
static void blend_pixels(uint8_t *to, const uint8_t *tile, const struct tiles *rows, size_t i,
                         const struct tiles *columns, size_t j)
{
    for (size_t y = 0; y < rows->size; y++)
        for (size_t x = 0; x < columns->size; x++) {
            float part = share(rows, i, y, columns, j, x);
            size_t row = start_of(rows, i) + y, column = start_of(columns, j) + x;
            uint8_t *old = to + (row * columns->length + column) * 3;
            const uint8_t *new = tile + (y * columns->size + x) * 3;
            for (size_t c = 0; c < 3; c++) {
                float mixed = (float)old[c] + part * (float)(new[c] - old[c]);
                old[c] = part < 1 ? (uint8_t)(mixed + 0.5f) : new[c];
            }
        }
}

struct job {
    struct autoencoder *ae;
    struct tiles rows, columns;             // of the latent
    struct tiles pixel_rows, pixel_columns; // of the image
    uint8_t *image;                         // of a tile, as is what follows
    float *mean, *std;
};

static int start(struct job *job, struct autoencoder *ae, size_t side, size_t overlap, size_t H,
                 size_t W)
{
    size_t f = ae->downsample;
    assert(side % f == 0 && overlap % f == 0 && side >= 3 * overlap);
    *job = (struct job){.ae = ae,
                        .rows = split(H / f, side / f, overlap / f),
                        .columns = split(W / f, side / f, overlap / f)};
    job->pixel_rows = scaled(&job->rows, f);
    job->pixel_columns = scaled(&job->columns, f);
    size_t n = job->rows.size * job->columns.size;
    job->image = mem_new(n * f * f, 3);
    job->mean = mem_new(n * ae->channels, sizeof *job->mean);
    job->std = mem_new(n * ae->channels, sizeof *job->std);
    return job->image && job->mean && job->std ? 0 : -1;
}

static void finish(struct job *job)
{
    free(job->image);
    free(job->mean);
    free(job->std);
}

static int encode_tile(struct job *job, size_t i, size_t j, const uint8_t *image, float *mean,
                       float *std)
{
    size_t H = job->pixel_rows.size, W = job->pixel_columns.size, C = job->ae->channels;
    size_t row = start_of(&job->pixel_rows, i), column = start_of(&job->pixel_columns, j);
    for (size_t y = 0; y < H; y++)
        memcpy(job->image + y * W * 3, image + ((row + y) * job->pixel_columns.length + column) * 3,
               W * 3);
    if (job->ae->encode(job->ae, job->image, 1, H, W, job->mean, job->std) < 0)
        return error_prefix("the tile at row %zu, column %zu of the image", row, column);
    blend_floats(mean, job->mean, C, &job->rows, i, &job->columns, j);
    if (job->ae->spread)
        blend_floats(std, job->std, C, &job->rows, i, &job->columns, j);
    return 0;
}

static int decode_tile(struct job *job, size_t i, size_t j, const float *latent, uint8_t *image)
{
    size_t h = job->rows.size, w = job->columns.size;
    size_t row = start_of(&job->rows, i), column = start_of(&job->columns, j);
    for (size_t c = 0; c < job->ae->channels; c++)
        for (size_t y = 0; y < h; y++)
            memcpy(job->mean + (c * h + y) * w,
                   latent + (c * job->rows.length + row + y) * job->columns.length + column,
                   w * sizeof *latent);
    if (job->ae->decode(job->ae, job->mean, 1, job->pixel_rows.size, job->pixel_columns.size,
                        job->image) < 0)
        return error_prefix("the tile at row %zu, column %zu of the latent", row, column);
    blend_pixels(image, job->image, &job->pixel_rows, i, &job->pixel_columns, j);
    return 0;
}

int autoencoder_encode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const uint8_t *image, size_t H, size_t W, float *mean, float *std)
{
    struct job job;
    int rc = start(&job, ae, side, overlap, H, W);
    for (size_t i = 0; i < job.rows.n; i++)
        for (size_t j = 0; rc == 0 && j < job.columns.n; j++)
            rc = encode_tile(&job, i, j, image, mean, std);
    finish(&job);
    return rc;
}

int autoencoder_decode_tiles(struct autoencoder *ae, size_t side, size_t overlap,
                             const float *latent, size_t H, size_t W, uint8_t *image)
{
    struct job job;
    int rc = start(&job, ae, side, overlap, H, W);
    for (size_t i = 0; i < job.rows.n; i++)
        for (size_t j = 0; rc == 0 && j < job.columns.n; j++)
            rc = decode_tile(&job, i, j, latent, image);
    finish(&job);
    return rc;
}
