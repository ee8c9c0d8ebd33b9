// Reports failures of a device as errors. SPDX-License-Identifier: MIT
#include "lib/model/device-check.h"

#include <stdarg.h>
#include <stdio.h>

#include "lib/base/error.h"

int device_check(struct device *device)
{
    const char *message = device_error(device);
    return message ? error_set(STATUS_INTERNAL, "%s", message) : 0;
}

int device_lacks(struct device *device, size_t bytes, const char *hint, const char *what, ...)
{
    char text[512];
    va_list ap;
    if (device_check(device) < 0)
        return -1;
    va_start(ap, what);
    vsnprintf(text, sizeof text, what, ap);
    va_end(ap);
    return error_set(STATUS_INTERNAL, "%s needs %.3g GB, which %s does not have%s%s", text,
                     (double)bytes * 1e-9, device->description, hint ? "; " : "", hint ? hint : "");
}
