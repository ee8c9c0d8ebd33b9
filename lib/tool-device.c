// SPDX-License-Identifier: MIT
#include "lib/tool-device.h"

#include <stdio.h>

#include "lib/tool.h"

struct device *tool_open_device(void)
{
    static const char *const precisions[] = {"", ",bf16", ",tf32", ",f32"};
    char name[64], why[256];
    snprintf(name, sizeof name, "%.40s%s", tool.device, precisions[tool.precision]);
    struct device *device = device_open(name, (int)tool.threads, why);
    if (!device) {
        error_set(STATUS_USAGE, "device %s: %s", tool.device, why);
        return NULL;
    }
    if (device->note[0])
        tool_note("%s", device->note);
    tool_detail("computing on %s", device->description);
    return device;
}
