// Disk space without a name: gone when it is closed, or the process ends in any way.
// SPDX-License-Identifier: MIT
#ifndef DIT_SCRATCH_H
#define DIT_SCRATCH_H

#include <stddef.h>

// A new file for writing and reading in $TMPDIR, or else in `folder` (NULL: /tmp). The descriptor,
// or -1 with an error (STATUS_CANT_CREATE).
int scratch_open(const char *folder);
// All bytes, or -1 with an error (STATUS_IO).
int scratch_write(int fd, const void *data, size_t size);

#endif
