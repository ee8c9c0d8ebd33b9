// SPDX-License-Identifier: MIT
#include "lib/tool-device.h"

#include "lib/tool.h"

struct device *tool_open_device(void)
{
    char why[256];
    struct device *device = device_open(tool.device, (int)tool.threads, why);
    if (device)
        tool_detail("computing on %s", device->description);
    else
        error_set(STATUS_USAGE, "device %s: %s", tool.device, why);
    return device;
}
