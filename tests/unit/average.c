// Power-function averages have the shares of each update that they promise, and snapshots of them
// make others.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/model/average.h"
#include "tests/tap.h"

enum { N = 4000 };

// The share of each update in a power-function average after n updates, by its decays.
static void average_directly(double width, uint64_t n, double shares[N])
{
    memset(shares, 0, N * sizeof *shares);
    double left = 1; // of update t
    for (uint64_t t = n; t > 0; t--) {
        const double decay = average_power_decay(width, t);
        shares[t - 1] = (1 - decay) * left;
        left *= decay;
    }
}

static double norm_of(const double shares[N])
{
    double sum = 0;
    for (size_t t = 0; t < N; t++)
        sum += shares[t] * shares[t];
    return sqrt(sum);
}

// How far the average of a width is from what `count` snapshots at equal distances, of each of two
// widths, make of it; *error as they say themselves.
static double distance_from_snapshots(double width, size_t count, double *error)
{
    static double direct[N], one[N], factors[128];
    struct snapshot snapshots[128];
    const struct snapshot wanted = {width, N};
    for (size_t i = 0; i < 2 * count; i++)
        snapshots[i] = (struct snapshot){i % 2 ? 0.1 : 0.05, (i / 2 + 1) * N / count};
    if (average_from_snapshots(snapshots, 2 * count, &wanted, factors, error) < 0)
        return INFINITY;
    average_directly(width, N, direct);
    const double norm = norm_of(direct);
    for (size_t i = 0; i < 2 * count; i++) {
        average_directly(snapshots[i].width, snapshots[i].n, one);
        for (size_t t = 0; t < N; t++)
            direct[t] -= factors[i] * one[t];
    }
    return norm_of(direct) / norm;
}

static void test_widths(void)
{
    static double shares[N];
    ok(fabs(average_power(0.05) - 16.97) < 0.005 && fabs(average_power(0.1) - 6.94) < 0.005,
       "widths 0.05 and 0.1 are the powers that the paper has");
    average_directly(0.1, N, shares);
    double sum = 0, mean = 0, square = 0;
    for (size_t t = 0; t < N; t++) {
        const double at = ((double)t + 0.5) / N;
        sum += shares[t];
        mean += shares[t] * at;
        square += shares[t] * at * at;
    }
    ok(fabs(sum - 1) < 1e-12 && average_power_decay(0.1, 1) == 0,
       "an average takes nothing from before the first update");
    ok(fabs(sqrt(square - mean * mean) - 0.1) < 1e-6, "its width is that of its shares");
}

static void test_snapshots(void)
{
    const struct snapshot two[] = {{0.05, 1000}, {0.1, 1000}}, alike[] = {{0.05, 10}, {0.05, 10}};
    double factors[2], error, distance, last = 1;
    ok(average_from_snapshots(two, 2, &two[1], factors, &error) == 0 && fabs(factors[0]) < 1e-9 &&
           fabs(factors[1] - 1) < 1e-9 && error < 1e-6,
       "a snapshot makes itself alone");
    for (size_t count = 2; count <= 32; count *= 4) {
        distance = distance_from_snapshots(0.075, count, &error);
        ok(distance < last / 2, "%zu snapshots of two widths make a third, better than fewer",
           count);
        diag("distance %.3g, said %.3g", distance, error);
        ok(fabs(distance - error) < 0.02 * error + 1e-3, "... and say how well");
        last = distance;
    }
    ok(last < 0.01, "it is then within 1%% of the average made directly");
    ok(average_from_snapshots(alike, 2, &two[0], factors, &error) < 0 &&
           strstr(error_message(), "two snapshots of the width 0.05"),
       "a snapshot that is given twice is refused");
}

static void test_texts(void)
{
    static const char *const good[] = {"0.999", "power:0.05", "1", "0"};
    static const char *const bad[] = {"",        "x",   "power:", "power:0.3",
                                      "power:0", "1.5", "-0.1",   "nan"};
    struct average average;
    const char *end;
    char text[AVERAGE_TEXT_SIZE];
    bool same = true, refused = true;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        same = same && average_parse(&average, good[i], &end) == 0 && !*end;
        average_text(&average, text);
        same = same && strcmp(text, good[i]) == 0;
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused = refused && average_parse(&average, bad[i], &end) < 0;
    ok(same, "the text of an average is read as it was written");
    ok(refused, "texts of no average are refused");
}

int main(void)
{
    test_widths();
    test_snapshots();
    test_texts();
    return tap_done();
}
