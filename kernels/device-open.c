// Opens devices by name. This is not part of device.c, because it depends on all backends, and they
// depend on device.c.
// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda-plugin.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "lib/base/cpu.h"
#include "lib/base/team.h"

#define DETERMINISTIC ",deterministic"

static const struct backend *cpu_backend(void)
{
#ifdef __x86_64__
    if (cpu_has_avx2())
        return &avx2_backend;
#endif
    return &generic_backend;
}

// Returns N of "KIND:N", 0 for "KIND", -1 for any other name.
static int parse_index(const char *name, const char *kind)
{
    size_t length = strlen(kind);
    if (strcmp(name, kind) == 0)
        return 0;
    if (strncmp(name, kind, length) != 0 || name[length] != ':' || name[length + 1] < '0' ||
        name[length + 1] > '9')
        return -1;
    char *end;
    unsigned long number = strtoul(name + length + 1, &end, 10);
    return *end || number > 1023 ? -1 : (int)number;
}

static bool host_computes_in(const char *precision)
{
    return !precision || strcmp(precision, "f32") == 0;
}

static int open_host(struct device *device, const struct backend *backend, const char *precision,
                     char why[256])
{
    if (!host_computes_in(precision)) {
        snprintf(why, 256, "a CPU computes in f32, not in %.20s", precision);
        return -1;
    }
    device->backend = backend;
    device->ops = backend->ops;
    device->threads = backend == &ref_backend ? 1 : device->threads;
    snprintf(device->description, sizeof device->description, "cpu (%s, %d thread%s)",
             backend->name, device->threads, device->threads == 1 ? "" : "s");
    device->team = device->threads > 1 ? team_new((size_t)device->threads) : NULL;
    if (device->threads > 1 && !device->team) {
        snprintf(why, 256, "out of memory");
        return -1;
    }
    return 0;
}

static int open_backend(struct device *device, const char *name, const char *precision,
                        char why[256])
{
    int cuda = parse_index(name, "cuda"), automatic = parse_index(name, "auto");
    if (cuda >= 0)
        return cuda_plugin_open(device, cuda, precision, why);
    if (automatic >= 0 && cuda_plugin_found()) {
        if (cuda_plugin_open(device, automatic, precision, why) == 0)
            return 0;
        if (!host_computes_in(precision))
            return -1;
        snprintf(device->note, sizeof device->note, "computing on the CPU: %s", why);
    }
    if (automatic >= 0 || strcmp(name, "cpu") == 0)
        return open_host(device, cpu_backend(), precision, why);
    if (strcmp(name, "generic") == 0)
        return open_host(device, &generic_backend, precision, why);
    if (strcmp(name, "ref") == 0)
        return open_host(device, &ref_backend, precision, why);
    snprintf(why, 256, "unknown; expected auto, cpu, cuda or cuda:N");
    return -1;
}

struct device *device_open(const char *name, int threads, char why[256])
{
    char base[32], precision[32] = "";
    size_t length = strlen(name), suffix = strlen(DETERMINISTIC);
    bool deterministic = length >= suffix && strcmp(name + length - suffix, DETERMINISTIC) == 0;
    length -= deterministic ? suffix : 0;
    const char *comma = memchr(name, ',', length);
    size_t kind = comma ? (size_t)(comma - name) : length;
    snprintf(base, sizeof base, "%.*s", kind < sizeof base ? (int)kind : 0, name);
    if (comma)
        snprintf(precision, sizeof precision, "%.*s", (int)(length - kind - 1), comma + 1);
    struct device *device = calloc(1, sizeof *device);
    if (!device) {
        snprintf(why, 256, "out of memory");
        return NULL;
    }
    device->threads = threads;
    device->deterministic = deterministic;
    if (open_backend(device, base, comma ? precision : NULL, why) < 0) {
        free(device);
        return NULL;
    }
    return device;
}
