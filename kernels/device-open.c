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
#include "lib/base/error.h"
#include "lib/base/team.h"

#define DETERMINISTIC ",deterministic"

// The backends that compute on the host. "cpu" is the last of those that may be used and have the
// precision that is asked for.
static const struct {
    const struct backend *backend; // NULL if it is not linked in
    enum cpu_isa isa;              // that it needs
} hosts[] = {
    {&ref_backend, CPU_GENERIC},
#ifdef __x86_64__
    {&lanes16_f32_backend, CPU_AVX2},
    {&lanes16_bf16_backend, CPU_AVX2},
    {&generic_f32_backend, CPU_GENERIC},
    {&generic_bf16_backend, CPU_GENERIC},
    {&avx2_f32_backend, CPU_AVX2},
    {&avx2_bf16_backend, CPU_AVX2},
    {&avx512_f32_backend, CPU_AVX512},
    {&avx512_bf16_backend, CPU_AVX512},
    {&avx512bf16_bf16_backend, CPU_AVX512BF16},
#else
    {&lanes16_f32_backend, CPU_GENERIC}, {&lanes16_bf16_backend, CPU_GENERIC},
    {&generic_f32_backend, CPU_GENERIC}, {&generic_bf16_backend, CPU_GENERIC},
#endif
};

const char *device_host_name(size_t i)
{
    for (size_t k = 0; k < sizeof hosts / sizeof *hosts; k++)
        if (hosts[k].backend && hosts[k].isa <= cpu_isa() && i-- == 0)
            return hosts[k].backend->name;
    return NULL;
}

// The backend "NAME" or, with activations of 16 bits, "NAME,bf16". NULL if there is none, or it may
// not be used.
static const struct backend *find_host(const char *name, bool bf16)
{
    const struct backend *found = NULL;
    for (size_t k = 0; k < sizeof hosts / sizeof *hosts; k++) {
        const struct backend *b = hosts[k].backend;
        if (!b || hosts[k].isa > cpu_isa() || (b->act_size == 2) != bf16)
            continue;
        const size_t length = strcspn(b->name, ",");
        if (strcmp(name, "cpu") == 0 || (strncmp(name, b->name, length) == 0 && !name[length]))
            found = b;
    }
    return found;
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
    return !precision || strcmp(precision, "f32") == 0 || strcmp(precision, "bf16") == 0;
}

static int open_host(struct device *device, const char *name, const char *precision, char why[256])
{
    const bool known = find_host(name, false) || find_host(name, true);
    const bool bf16 = precision && strcmp(precision, "bf16") == 0;
    const struct backend *backend = find_host(name, bf16);
    if (known && !host_computes_in(precision))
        snprintf(why, 256, "a CPU computes in f32 or bf16, not in %.20s", precision);
    else if (known && !backend)
        snprintf(why, 256, "it does not compute in %s", bf16 ? "bf16" : "f32");
    else if (!known)
        snprintf(why, 256, "unknown; expected auto, cpu, cuda or cuda:N");
    if (!backend || !host_computes_in(precision))
        return -1;
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
    return open_host(device, automatic >= 0 ? "cpu" : name, precision, why);
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
    if (cpu_check() < 0) {
        snprintf(why, 256, "%s", error_message());
        free(device);
        return NULL;
    }
    if (open_backend(device, base, comma ? precision : NULL, why) < 0) {
        free(device);
        return NULL;
    }
    return device;
}
