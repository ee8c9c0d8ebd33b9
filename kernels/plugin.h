// Loads shared objects when they are needed, so that one build serves machines with and without the
// libraries that those link. SPDX-License-Identifier: MIT
#ifndef DIT_PLUGIN_H
#define DIT_PLUGIN_H

#include <stdbool.h>

#define PLUGIN_PATH 4096

// Finds the path of a plug-in: $VARIABLE, or FILE in ../lib/dit-tools relative to the program's
// folder, or FILE in LIBDIR/dit-tools, where `make install` puts plug-ins. False if there is none,
// or the variable is set and empty.
bool plugin_find(const char *variable, const char *file, char path[PLUGIN_PATH]);
// Calls dlopen. NULL with a message in why: "the WHAT plug-in can't be loaded: ...".
void *plugin_load(const char *path, const char *what, int flags, char why[256]);

#endif
