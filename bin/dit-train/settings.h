// A program's options kept in a file's metadata, under "setting.NAME". SPDX-License-Identifier: MIT
#ifndef DIT_SETTINGS_H
#define DIT_SETTINGS_H

#include <jansson.h>

#include "lib/tool/tool.h"

// Adds the values that the options have now, but for those not set. -1 with an error.
int settings_write(const struct option *options, json_t *metadata);
// Gives the options the values that are there; the others are left. -1 with an error (65).
int settings_read(const struct option *options, const json_t *metadata);

#endif
