// Shared objects that programs load where they are needed, so that one build serves machines with
// and without what those link. SPDX-License-Identifier: MIT
#ifndef DIT_PLUGIN_H
#define DIT_PLUGIN_H

#include <stdbool.h>

#define PLUGIN_PATH 4096

// The path of a plug-in: $VARIABLE, else FILE in ../lib/dit-tools, seen from the program's folder,
// else FILE where `make install` puts plug-ins (LIBDIR/dit-tools). False if there is none, or the
// variable is set and empty.
bool plugin_find(const char *variable, const char *file, char path[PLUGIN_PATH]);
// dlopen; NULL with a message in why: "the WHAT plug-in can't be loaded: ...".
void *plugin_load(const char *path, const char *what, int flags, char why[256]);

#endif
