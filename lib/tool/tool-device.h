// The device that the options --device and --threads name. SPDX-License-Identifier: MIT
#ifndef DIT_TOOL_DEVICE_H
#define DIT_TOOL_DEVICE_H

#include "kernels/device.h"

// NULL with an error (STATUS_USAGE) if it can't be had. Says with --verbose what it is.
struct device *tool_open_device(void);

#endif
