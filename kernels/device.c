// SPDX-License-Identifier: MIT
#include "kernels/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

static const struct backend *cpu_backend(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c"))
        return &avx2_backend;
#endif
    return &generic_backend;
}

static bool is_cuda(const char *name)
{
    return strncmp(name, "cuda", 4) == 0 && (name[4] == '\0' || name[4] == ':');
}

static const struct backend *find_backend(const char *name, char why[256])
{
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0)
        return cpu_backend();
    if (strcmp(name, "generic") == 0)
        return &generic_backend;
    if (strcmp(name, "ref") == 0)
        return &ref_backend;
    if (is_cuda(name))
        snprintf(why, 256, "device %s: this build holds no CUDA plug-in", name);
    else
        snprintf(why, 256, "device %s: unknown; expected auto, cpu, cuda or cuda:N", name);
    return NULL;
}

struct device *device_open(const char *name, int threads, char why[256])
{
    const struct backend *backend = find_backend(name, why);
    if (!backend)
        return NULL;
    struct device *device = calloc(1, sizeof *device);
    if (!device) {
        snprintf(why, 256, "device %s: out of memory", name);
        return NULL;
    }
    device->backend = backend;
    device->ops = backend->ops;
    device->threads = backend == &ref_backend ? 1 : threads;
    snprintf(device->description, sizeof device->description, "cpu (%s, %d thread%s)",
             backend->name, device->threads, device->threads == 1 ? "" : "s");
    return device;
}

void device_close(struct device *device)
{
    if (!device)
        return;
    device->backend->close(device);
    free(device);
}

double device_peak_flops(struct device *device)
{
    return device->backend->peak_flops ? device->backend->peak_flops(device) : 0;
}

void device_set_error(struct device *device, const char *format, ...)
{
    if (device->error[0])
        return;
    va_list ap;
    va_start(ap, format);
    vsnprintf(device->error, sizeof device->error, format, ap);
    va_end(ap);
}

const char *device_error(struct device *device)
{
    return device->error[0] ? device->error : NULL;
}
