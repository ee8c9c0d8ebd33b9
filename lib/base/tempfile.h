// Files that must not outlive the process: removed at exit() and by a signal that ends it.
// SPDX-License-Identifier: MIT
#ifndef DIT_TEMPFILE_H
#define DIT_TEMPFILE_H

#include <stdbool.h>

struct tempfile;

// Opens a new file for writing and reading, with the usual permissions, beside `path` and with a
// name made from it. The descriptor, or -1 with errno set and no message.
int tempfile_open(const char *path, struct tempfile **file);
const char *tempfile_path(const struct tempfile *file);
void tempfile_remove(struct tempfile *file);
void tempfile_keep(struct tempfile *file); // it has its final name: nothing is left to remove
// Whether this is a name as these files have: where no other process is at work, one was killed.
bool tempfile_is_name(const char *name);

// Removes them all, then lets the signal end the process. For signal handlers.
void tempfile_die(int signal);

#endif
