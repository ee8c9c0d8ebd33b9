// Temporary files that never have a name, or only until they are open. SPDX-License-Identifier: MIT
#include "lib/base/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/tempfile.h"

// -1 with errno.
static int open_and_unlink(const char *folder)
{
    char *path = path_join(folder, "scratch");
    struct tempfile *file;
    int fd = path ? tempfile_open(AT_FDCWD, path, &file) : -1;
    free(path);
    if (fd >= 0)
        tempfile_remove(file);
    return fd;
}

int scratch_open(const char *folder)
{
    const char *tmpdir = getenv("TMPDIR");
    if (tmpdir && *tmpdir)
        folder = tmpdir;
    else if (!folder)
        folder = "/tmp";
    // Not every file system has files without a name.
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = open_and_unlink(folder);
    if (fd < 0)
        return error_set_errno(STATUS_CANT_CREATE, "cannot make a temporary file in %s", folder);
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
