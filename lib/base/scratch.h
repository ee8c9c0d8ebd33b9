// Temporary files without a name: their space is freed when they are closed or the process ends.
// SPDX-License-Identifier: MIT
#ifndef DIT_SCRATCH_H
#define DIT_SCRATCH_H

#include <stddef.h>

// Opens a new file, which nobody else can open, for writing and reading in $TMPDIR, or in `folder`
// (NULL: /tmp) if that is unset. The descriptor, or -1 with an error (STATUS_CANT_CREATE).
int scratch_open(const char *folder);
// Writes all bytes. -1 with an error (STATUS_IO).
int scratch_write(int fd, const void *data, size_t size);

#endif
