// Prints the peak rates of this machine: of multiply-adds and of copying memory.
// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/device.h"
#include "lib/base/clock.h"

// GB/s that one thread reads and writes when it copies `size` bytes; 0 if there is no memory.
static double copy_bandwidth(size_t size)
{
    char *from = malloc(size), *to = malloc(size);
    double best = 0;
    if (from && to) {
        memset(from, 1, size);
        memset(to, 1, size);
        for (int attempt = 0; attempt < 10; attempt++) {
            double start = clock_seconds();
            memcpy(to, from, size);
            double rate = 2e-9 * (double)size / (clock_seconds() - start);
            best = rate > best && to[size - 1] ? rate : best;
        }
    }
    free(from);
    free(to);
    return best;
}

int main(void)
{
    const int processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    for (int threads = 1; threads <= processors; threads += processors > 1 ? processors - 1 : 1) {
        char why[256];
        struct device *device = device_open("cpu", threads, why);
        if (!device)
            return fprintf(stderr, "peak: %s\n", why), 70;
        printf("%s: %.1f GFLOP/s of multiply-adds\n", device->description,
               1e-9 * device_peak_flops(device));
        device_close(device);
    }
    printf("memcpy, 1 thread: %.1f GB/s in cache (4 MB), %.1f GB/s in memory (256 MB)\n",
           copy_bandwidth((size_t)4 << 20), copy_bandwidth((size_t)256 << 20));
}
