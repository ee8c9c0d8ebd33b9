// Distances between sets of points, tile by tile. SPDX-License-Identifier: MIT
#include "lib/evaluation/neighbours.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/team.h"
#include "lib/base/tensor.h"

#define TILE    2048 // points on each side
#define COLUMNS 256  // of a tile that a thread takes at a time

// A set with what is known of each of its points.
struct neighbourhood {
    const struct feature_set *set;
    const float *features;            // of the set, or rounded
    float *rounded;                   // memory of the latter
    float *norms;                     // (n): |x|^2
    float (*nearest)[NEIGHBOURS + 1]; // (n): the smallest distances, the point itself included
    bool *covered;                    // (n): whether it lies within a radius of the other set
};

static size_t tile_end(size_t first, size_t n)
{
    return n - first < TILE ? n - first : TILE;
}

static float round_half(float x)
{
    return f16_to_f32(f16_from_f32(x));
}

static void neighbourhood_free(struct neighbourhood *p)
{
    free(p->rounded);
    free(p->norms);
    free(p->nearest);
    free(p->covered);
}

static int neighbourhood_init(struct neighbourhood *p, const struct feature_set *set, bool half)
{
    *p = (struct neighbourhood){.set = set, .features = set->features};
    p->norms = mem_new(set->n, sizeof *p->norms);
    p->nearest = mem_new(set->n, sizeof *p->nearest);
    p->covered = mem_new(set->n, sizeof *p->covered);
    if (half)
        p->features = p->rounded = mem_new(set->n, set->D * sizeof *p->rounded);
    if (!p->norms || !p->nearest || !p->covered || !p->features) {
        neighbourhood_free(p);
        return -1;
    }
    for (size_t i = 0; half && i < set->n * set->D; i++)
        p->rounded[i] = round_half(set->features[i]);
    for (size_t i = 0; i < set->n; i++) {
        double sum = 0;
        for (size_t k = 0; k < set->D; k++)
            sum += (double)p->features[i * set->D + k] * p->features[i * set->D + k];
        p->norms[i] = half ? round_half((float)sum) : (float)sum;
        for (size_t k = 0; k <= NEIGHBOURS; k++)
            p->nearest[i][k] = INFINITY;
    }
    return 0;
}

static float half_distance(float norm_u, float uv, float norm_v)
{
    return round_half(round_half(norm_u - 2 * round_half(uv)) + norm_v);
}

// A tile of distances, and the sets that they are between, which may be one.
struct tile_work {
    struct device *host;
    struct neighbourhood *u, *v; // of its rows and its columns
    bool half;
    size_t i, j, rows, columns; // from point i of u and j of v on
    float *at;                  // (rows,columns)
};

// Turns products into distances, row by row.
static void finish_rows(const void *context, struct team_range range)
{
    const struct tile_work *t = context;
    const float *norms = t->v->norms + t->j;
    for (size_t i = range.first; i < range.end; i++) {
        const float norm = t->u->norms[t->i + i];
        float *row = t->at + i * t->columns;
        for (size_t j = 0; j < t->columns; j++) {
            float d = t->half ? half_distance(norm, row[j], norms[j]) : INFINITY;
            // Where a square is beyond the range of half precision, ADM's evaluator goes back, too.
            d = isfinite(d) ? d : norm - 2 * row[j] + norms[j];
            row[j] = d > 0 ? d : 0;
        }
    }
}

static void fill_tile(struct tile_work *t)
{
    const size_t D = t->u->set->D;
    t->rows = tile_end(t->i, t->u->set->n), t->columns = tile_end(t->j, t->v->set->n);
    op_linear(t->host, (act *)t->at, t->columns, (const act *)(t->u->features + t->i * D),
              (const act *)(t->v->features + t->j * D), NULL, t->rows, D, t->columns);
    team_for(t->host->team, t->rows, 16, finish_rows, t);
}

// Keeps the smallest distances in order.
static inline void keep_nearest(float nearest[NEIGHBOURS + 1], float distance)
{
    if (distance >= nearest[NEIGHBOURS])
        return;
    size_t k = NEIGHBOURS;
    for (; k > 0 && nearest[k - 1] > distance; k--)
        nearest[k] = nearest[k - 1];
    nearest[k] = distance;
}

static void keep_in_rows(const void *context, struct team_range range)
{
    const struct tile_work *t = context;
    for (size_t i = range.first; i < range.end; i++)
        for (size_t j = 0; j < t->columns; j++)
            keep_nearest(t->u->nearest[t->i + i], t->at[i * t->columns + j]);
}

static void keep_in_columns(const void *context, struct team_range range)
{
    const struct tile_work *t = context;
    for (size_t i = 0; i < t->rows; i++)
        for (size_t j = range.first; j < range.end; j++)
            keep_nearest(t->v->nearest[t->j + j], t->at[i * t->columns + j]);
}

// The distances within a set; those below the diagonal are those above it, mirrored.
static void find_radii(struct tile_work *t, struct neighbourhood *p)
{
    t->u = t->v = p;
    for (t->i = 0; t->i < p->set->n; t->i += TILE)
        for (t->j = t->i; t->j < p->set->n; t->j += TILE) {
            fill_tile(t);
            team_for(t->host->team, t->rows, 16, keep_in_rows, t);
            if (t->i != t->j)
                team_for(t->host->team, t->columns, COLUMNS, keep_in_columns, t);
        }
}

static void cover_rows(const void *context, struct team_range range)
{
    const struct tile_work *t = context;
    for (size_t i = range.first; i < range.end; i++)
        for (size_t j = 0; j < t->columns; j++)
            t->u->covered[t->i + i] |=
                t->at[i * t->columns + j] <= t->v->nearest[t->j + j][NEIGHBOURS];
}

static void cover_columns(const void *context, struct team_range range)
{
    const struct tile_work *t = context;
    for (size_t i = 0; i < t->rows; i++)
        for (size_t j = range.first; j < range.end; j++)
            t->v->covered[t->j + j] |=
                t->at[i * t->columns + j] <= t->u->nearest[t->i + i][NEIGHBOURS];
}

// Marks the points of each set that lie within a radius of the other.
static void find_covered(struct tile_work *t, struct neighbourhood *u, struct neighbourhood *v)
{
    t->u = u, t->v = v;
    for (t->i = 0; t->i < u->set->n; t->i += TILE)
        for (t->j = 0; t->j < v->set->n; t->j += TILE) {
            fill_tile(t);
            team_for(t->host->team, t->rows, 16, cover_rows, t);
            team_for(t->host->team, t->columns, COLUMNS, cover_columns, t);
        }
}

static double covered_share(const struct neighbourhood *p)
{
    size_t covered = 0;
    for (size_t i = 0; i < p->set->n; i++)
        covered += p->covered[i];
    return (double)covered / (double)p->set->n;
}

int precision_recall(struct device *host, const struct feature_set *samples,
                     const struct feature_set *reference, bool half, double *precision,
                     double *recall)
{
    const size_t least = samples->n < reference->n ? samples->n : reference->n;
    if (least <= NEIGHBOURS)
        return error_set(STATUS_DATA,
                         "expected at least %d images for precision and recall, found %zu",
                         NEIGHBOURS + 1, least);
    struct neighbourhood u = {0}, v = {0};
    struct tile_work tile = {
        .host = host, .half = half, .at = mem_new(TILE, TILE * sizeof *tile.at)};
    int rc = tile.at && neighbourhood_init(&u, samples, half) == 0 &&
                     neighbourhood_init(&v, reference, half) == 0
                 ? 0
                 : -1;
    if (rc == 0) {
        find_radii(&tile, &u);
        find_radii(&tile, &v);
        find_covered(&tile, &u, &v);
        *precision = covered_share(&u);
        *recall = covered_share(&v);
    }
    free(tile.at);
    neighbourhood_free(&u);
    neighbourhood_free(&v);
    return rc;
}
