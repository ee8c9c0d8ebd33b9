// From the options --device, --precision and --threads to a device. SPDX-License-Identifier: MIT
#include "lib/tool/tool-device.h"

#include <stdio.h>
#include <string.h>

#include "lib/tool/tool.h"

struct device *tool_open_device(void)
{
    static const char *const precisions[] = {"", ",bf16", ",tf32", ",f32"};
    char name[96], why[256], own[16] = ""; // each rank of a machine takes a GPU of its own
    if (tool.rank.count > 1 &&
        (strcmp(tool.device, "auto") == 0 || strcmp(tool.device, "cuda") == 0))
        snprintf(own, sizeof own, ":%d", tool.rank.local_index);
    snprintf(name, sizeof name, "%.40s%s%s%s", tool.device, own, precisions[tool.precision],
             tool.deterministic ? ",deterministic" : "");
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
