// The random draws of a training step have the distributions that they should: time steps are
// uniform, and labels are dropped at the given rate. SPDX-License-Identifier: MIT
#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "tests/tap.h"

enum { N = 1000000, STEPS = 1000, NULL_CLASS = 10 };

static struct device *device;
static const char *backend;

static void *new_array(size_t n, size_t size)
{
    void *memory = device_alloc(device, n * size);
    if (!memory)
        exit(1);
    return memory;
}

// Draws the time steps t[N] of one training step. Each row of the table holds its own index, so
// that the rows that were copied are known.
static void draw_times(float *t, uint64_t seed, uint32_t step)
{
    struct diffusion_terms *table = new_array(STEPS, sizeof *table), rows[STEPS] = {0}, *host;
    struct diffusion_terms *terms = new_array(N, sizeof *terms);
    float *times = new_array(N, sizeof *times);
    for (size_t i = 0; i < STEPS; i++)
        rows[i].signal = (float)i;
    device_upload(device, table, rows, sizeof rows);
    op_draw_times(device, times, terms, table, STEPS, seed, RNG_TIME, step, 0, N);
    device_download(device, t, times, N * sizeof *t);
    if (!(host = mem_new(N, sizeof *host)))
        exit(1);
    device_download(device, host, terms, N * sizeof *host);
    size_t wrong = 0;
    for (size_t i = 0; i < N; i++)
        wrong += host[i].signal != t[i];
    ok(wrong == 0, "%s: each sample gets its time step's terms (seed %llu, step %u)", backend,
       (unsigned long long)seed, step);
    free(host);
    device_release(device, table);
    device_release(device, terms);
    device_release(device, times);
}

static void test_times(uint64_t seed)
{
    float *t = mem_new(N, sizeof *t), *next = mem_new(N, sizeof *next);
    if (!t || !next)
        exit(1);
    draw_times(t, seed, 77);
    draw_times(next, seed, 78);
    size_t counts[STEPS] = {0}, outside = 0;
    for (size_t i = 0; i < N; i++)
        if (t[i] >= 0 && t[i] < STEPS && t[i] == floorf(t[i]))
            counts[(size_t)t[i]]++;
        else
            outside++;
    ok(outside == 0, "%s: time steps are whole numbers from 0 to %d (seed %llu)", backend,
       STEPS - 1, (unsigned long long)seed);
    double chi2 = 0, expected = (double)N / STEPS, degrees = STEPS - 1;
    for (size_t i = 0; i < STEPS; i++)
        chi2 += pow((double)counts[i] - expected, 2) / expected;
    if (!ok(fabs(chi2 - degrees) < 4 * sqrt(2 * degrees),
            "%s: time steps are uniform (chi square, seed %llu)", backend,
            (unsigned long long)seed))
        diag("chi square %g with %g degrees of freedom", chi2, degrees);
    double covariance[2] = {0}, mean = (STEPS - 1) / 2.0, variance = (STEPS * STEPS - 1) / 12.0;
    for (size_t i = 0; i < N; i++) {
        covariance[0] += (t[i] - mean) * (next[i] - mean) / N;
        covariance[1] += (t[i] - mean) * (t[(i + 1) % N] - mean) / N;
    }
    for (int i = 0; i < 2; i++)
        if (!ok(fabs(covariance[i]) / variance < 4 / sqrt(N),
                "%s: time steps of neighbouring %s are not correlated (seed %llu)", backend,
                i ? "samples" : "training steps", (unsigned long long)seed))
            diag("correlation %g", covariance[i] / variance);
    free(t);
    free(next);
}

static void test_labels(double rate, uint64_t seed)
{
    int32_t *given = mem_new(N, sizeof *given), *got = mem_new(N, sizeof *got);
    int32_t *from = new_array(N, sizeof *from), *to = new_array(N, sizeof *to);
    if (!given || !got)
        exit(1);
    for (size_t i = 0; i < N; i++)
        given[i] = (int32_t)(i % (NULL_CLASS + 1)) - 1; // -1, or a class
    device_upload(device, from, given, N * sizeof *given);
    op_drop_labels(device, to, from, NULL_CLASS, rate, seed, RNG_DROP, 77, 0, N);
    device_download(device, got, to, N * sizeof *got);
    size_t changed = 0, kept_none = 0, dropped[NULL_CLASS] = {0}, of[NULL_CLASS] = {0};
    for (size_t i = 0; i < N; i++) {
        changed += got[i] != NULL_CLASS && got[i] != given[i];
        kept_none += given[i] < 0 && got[i] != NULL_CLASS;
        if (given[i] >= 0) {
            of[given[i]]++;
            dropped[given[i]] += got[i] == NULL_CLASS;
        }
    }
    ok(changed == 0 && kept_none == 0,
       "%s: labels are kept or become the null class, and missing labels always do (rate %g)",
       backend, rate);
    double worst = 0; // deviation from the rate, in standard deviations
    for (size_t k = 0; k < NULL_CLASS; k++) {
        double n = (double)of[k], sigma = sqrt(n * rate * (1 - rate));
        double off = fabs((double)dropped[k] - n * rate);
        worst = worse(worst, sigma > 0 ? off / sigma : off);
    }
    if (!ok(worst < 4, "%s: a share of %g of every class's labels is dropped (seed %llu)", backend,
            rate, (unsigned long long)seed))
        diag("off by %g standard deviations", worst);
    free(given);
    free(got);
    device_release(device, from);
    device_release(device, to);
}

// The argument is the backend to test; by default, all that compute on this host.
int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 || device_host_name(i); i++) {
        char why[256];
        backend = argc > 1 ? argv[1] : device_host_name(i);
        if (argc == 1 && strchr(backend, ',')) // the precision of activations changes nothing
            continue;
        if (!(device = device_open(backend, 1, why))) {
            diag("%s", why);
            return 1;
        }
        test_times(1);
        test_times(0x123456789ABCDEF0);
        test_labels(0, 1);
        test_labels(0.1, 1);
        test_labels(0.5, 2);
        test_labels(1, 1);
        ok(!device_error(device), "%s: no error is set on the device", backend);
        device_close(device);
        if (argc > 1)
            break;
    }
    return tap_done();
}
