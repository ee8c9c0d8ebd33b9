// Opening the device that the options choose. SPDX-License-Identifier: MIT
#ifndef DIT_TOOL_DEVICE_H
#define DIT_TOOL_DEVICE_H

#include "kernels/device.h"

// Opens the device that --device, --precision and --threads ask for, and names it with --verbose.
// NULL with an error (STATUS_USAGE) if it is not available.
struct device *tool_open_device(void);

#endif
