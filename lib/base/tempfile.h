// Temporary files that are removed when the process exits or is ended by a signal.
// SPDX-License-Identifier: MIT
#ifndef DIT_TEMPFILE_H
#define DIT_TEMPFILE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct tempfile;

// Creates a file beside `path` with a name made from it, for its owner to write and read. A
// relative path begins in `folder`, a descriptor (or AT_FDCWD) that must stay open as long as the
// file is temporary. The descriptor, or -1 with errno set and no message.
int tempfile_open(int folder, const char *path, struct tempfile **file);
const char *tempfile_path(const struct tempfile *file); // from `folder` on
void tempfile_remove(struct tempfile *file);
// Forgets the file, which has been renamed to its final name.
void tempfile_keep(struct tempfile *file);
// Whether a file's name has the form of these, .BASE.PID-N.tmp, and no other process of that number
// runs: such a file was left behind by one that was killed. BASE, the final name, is copied.
bool tempfile_is_stray(const char *name, char base[NAME_MAX + 1]);

// Removes all temporary files. Safe in signal handlers.
void tempfile_remove_all(void);
// Removes all temporary files, then ends the process by the signal. Safe in signal handlers. It is
// the one place in the library that ends the process: a signal has told it to.
void tempfile_die(int signal);

#endif
