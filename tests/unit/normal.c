// Every backend draws the normal numbers of lib/base/rng.h. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "lib/base/rng.h"
#include "tests/tap.h"

enum { B = 3, N = 1003 };

static uint64_t seed;

static void draws_the_same(const char *backend)
{
    static float host[B * N];
    const struct rng rng = {seed, RNG_NOISE, 12345, ((uint64_t)1 << 40) - 1};
    char why[256];
    struct device *device = device_open(backend, 2, why);
    float *x = device ? device_alloc(device, sizeof host) : NULL;
    if (!ok(x, "device %s opens", backend))
        exit(1);
    op_fill_normal(device, x, rng.seed, rng.purpose, rng.step, rng.sample, B, N);
    device_download(device, host, x, sizeof host);
    double worst = 0;
    for (size_t b = 0; b < B; b++) {
        const struct rng sample = {rng.seed, rng.purpose, rng.step, rng.sample + b};
        for (size_t i = 0; i < N; i++)
            worst = worse(worst, fabs(host[b * N + i] - rng_normal(&sample, i)));
    }
    if (!ok(worst < 2e-6, "%s draws rng_normal's numbers", backend))
        diag("largest difference %.2g", worst);
    device_release(device, x);
    device_close(device);
}

int main(void)
{
    seed = tap_seed(0xFEDCBA9876543210u);
    for (size_t i = 0; device_host_name(i); i++)
        if (!strchr(device_host_name(i), ',')) // the precision of activations changes nothing
            draws_the_same(device_host_name(i));
    return tap_done();
}
