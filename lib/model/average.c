// Exponential and power-function averages, and the least squares that joins the latter.
// SPDX-License-Identifier: MIT
#include "lib/model/average.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define POWER_WORD "power:"

void average_text(const struct average *average, char text[AVERAGE_TEXT_SIZE])
{
    snprintf(text, AVERAGE_TEXT_SIZE, "%s%.15g", average->width > 0 ? POWER_WORD : "",
             average->width > 0 ? average->width : average->decay);
}

int average_parse(struct average *average, const char *text, const char **end)
{
    const bool power = strncmp(text, POWER_WORD, strlen(POWER_WORD)) == 0;
    const char *start = text + (power ? strlen(POWER_WORD) : 0);
    char *after;
    double value = strtod(start, &after);
    *end = after;
    *average = power ? (struct average){.width = value} : (struct average){.decay = value};
    if (after == start)
        return -1;
    return (power ? value >= AVERAGE_WIDTH_MIN && value <= AVERAGE_WIDTH_MAX
                  : value >= 0 && value <= 1)
               ? 0
               : -1;
}

bool average_equals(const struct average *a, const struct average *b)
{
    return a->decay == b->decay && a->width == b->width;
}

// The width of shares that grow as t^gamma on [0, 1].
static double power_width(double gamma)
{
    return sqrt(gamma + 1) / ((gamma + 2) * sqrt(gamma + 3));
}

double average_power(double width)
{
    double low = 0, high = 1; // the width falls as gamma rises
    while (power_width(high) > width)
        high *= 2;
    for (int i = 0; i < 100; i++) {
        double middle = 0.5 * (low + high);
        *(power_width(middle) > width ? &low : &high) = middle;
    }
    return high;
}

double average_power_decay(double width, uint64_t n)
{
    return pow(1 - 1 / (double)n, average_power(width) + 1);
}

// The shares that the weights after each update t have in a snapshot: as t^gamma, up to t = n.
struct update_shares {
    double gamma, n;
};

static struct update_shares update_shares_of(const struct snapshot *snapshot)
{
    return (struct update_shares){average_power(snapshot->width), (double)snapshot->n};
}

// Their inner product, as if updates were continuous.
static double shares_product(const struct update_shares *a, const struct update_shares *b)
{
    return (a->gamma + 1) * (b->gamma + 1) * pow(a->n / b->n, a->n < b->n ? b->gamma : -a->gamma) /
           ((a->gamma + b->gamma + 1) * fmax(a->n, b->n));
}

// Solves a x = b by elimination with pivots; x replaces b (n). a (n,n) is changed. -1 without an
// error if there is no one solution.
static int solve_system(double *a, double *b, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;
        for (size_t i = k + 1; i < n; i++)
            pivot = fabs(a[i * n + k]) > fabs(a[pivot * n + k]) ? i : pivot;
        if (!(fabs(a[pivot * n + k]) > 0))
            return -1;
        for (size_t j = k; j < n && pivot != k; j++) {
            double value = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = value;
        }
        double value = b[k];
        b[k] = b[pivot];
        b[pivot] = value;
        for (size_t i = k + 1; i < n; i++) {
            double factor = a[i * n + k] / a[k * n + k];
            for (size_t j = k; j < n; j++)
                a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    }
    for (size_t k = n; k-- > 0;) {
        for (size_t j = k + 1; j < n; j++)
            b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
    return 0;
}

static int refuse_alike(const struct snapshot *snapshots, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (snapshots[i].n == snapshots[k].n && snapshots[i].width == snapshots[k].width)
                return error_set(STATUS_DATA,
                                 "two snapshots of the width %g after %" PRIu64 " updates",
                                 snapshots[i].width, snapshots[i].n);
    return 0;
}

// How far the sum of all, by these factors, is from the wanted shares, relative to their norm.
static double shares_distance(const struct update_shares *all, const double *factors, size_t count,
                              const struct update_shares *wanted)
{
    const double norm = shares_product(wanted, wanted);
    double distance = norm;
    for (size_t i = 0; i < count; i++) {
        distance -= 2 * factors[i] * shares_product(&all[i], wanted);
        for (size_t k = 0; k < count; k++)
            distance += factors[i] * factors[k] * shares_product(&all[i], &all[k]);
    }
    return sqrt(fmax(0, distance) / norm);
}

int average_from_snapshots(const struct snapshot *snapshots, size_t count,
                           const struct snapshot *wanted, double *factors, double *error)
{
    const struct update_shares target = update_shares_of(wanted);
    if (refuse_alike(snapshots, count) < 0)
        return -1;
    struct update_shares *all = mem_new(count, sizeof *all);
    double *products = mem_new(count * count, sizeof *products), sum = 0;
    int rc = all && products ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        all[i] = update_shares_of(&snapshots[i]);
        factors[i] = shares_product(&all[i], &target);
        for (size_t k = 0; k <= i; k++)
            products[i * count + k] = products[k * count + i] = shares_product(&all[i], &all[k]);
    }
    if (rc == 0) {
        rc = solve_system(products, factors, count);
        for (size_t i = 0; i < count; i++)
            sum += factors[i];
        if (rc < 0 || !isfinite(1 / sum))
            rc = error_set(STATUS_DATA, "%zu snapshots of too similar averages", count);
    }
    for (size_t i = 0; rc == 0 && i < count; i++)
        factors[i] /= sum;
    if (rc == 0)
        *error = shares_distance(all, factors, count, &target);
    free(all);
    free(products);
    return rc;
}
