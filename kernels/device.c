// Closes devices, and keeps their first error. SPDX-License-Identifier: MIT
#include "kernels/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/team.h"

void device_close(struct device *device)
{
    if (!device)
        return;
    device->backend->close(device);
    team_free(device->team);
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
    if (device->backend->wait)
        device->backend->wait(device);
    return device->error[0] ? device->error : NULL;
}
