// Temporary files that are unlinked as soon as they are open. SPDX-License-Identifier: MIT
#include "lib/base/scratch.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/tempfile.h"

int scratch_open(const char *folder)
{
    const char *tmpdir = getenv("TMPDIR");
    if (tmpdir && *tmpdir)
        folder = tmpdir;
    else if (!folder)
        folder = "/tmp";
    char *path = path_join(folder, "scratch");
    if (!path)
        return -1;
    struct tempfile *file;
    int fd = tempfile_open(path, &file);
    free(path);
    if (fd < 0)
        return error_set_errno(STATUS_CANT_CREATE, "cannot make a temporary file in %s", folder);
    tempfile_remove(file);
    return fd;
}

int scratch_write(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(STATUS_IO, "cannot write a temporary file");
        done += n;
    }
    return 0;
}
