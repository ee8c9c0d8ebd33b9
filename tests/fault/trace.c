// A preload that records what a program does to files, for power cuts to be tried on
// (power-cut.py). SPDX-License-Identifier: MIT
//
//     TRACE=FILE LD_PRELOAD=build/tests/fault/trace.so PROGRAM...
//
// FILE gets a record for each call that succeeds: three texts, each ended by a zero byte (the call,
// a path, another path), two 64-bit numbers (offset, size) and `size` bytes of data. Paths are
// absolute.
//     create PATH | mkdir PATH | rename FROM TO | symlink PATH TARGET | unlink PATH
//     write PATH (offset, data) | sync PATH | say (data): written to stderr
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int out = -1;
// Held from before a call until it is recorded, so that the records are in the order of the calls.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void open_trace(void)
{
    const char *path = getenv("TRACE");
    if (path)
        out = NEXT(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void put(const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = NEXT(write)(out, (const char *)data + done, size - done);
        if (n <= 0)
            _exit(70);
        done += (size_t)n;
    }
}

// Ends what pthread_mutex_lock has begun; keeps errno.
static void end_record(bool good, const char *call, const char *path, const char *other,
                       off_t offset, const void *data, size_t size)
{
    const int error = errno;
    if (good && out >= 0) {
        const uint64_t numbers[] = {(uint64_t)offset, size};
        put(call, strlen(call) + 1);
        put(path, strlen(path) + 1);
        put(other, strlen(other) + 1);
        put(numbers, sizeof numbers);
        put(data, size);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
}

static const char *path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

static const char *absolute(int folder, const char *path, char whole[2 * PATH_MAX])
{
    char start[PATH_MAX] = "";
    if (*path != '/' && folder != AT_FDCWD)
        path_of(folder, start);
    else if (*path != '/' && !getcwd(start, sizeof start))
        abort();
    snprintf(whole, 2 * PATH_MAX, "%s%s%s", start, *start ? "/" : "", path);
    return whole;
}

int openat(int folder, const char *path, int flags, ...)
{
    char whole[2 * PATH_MAX];
    struct stat st;
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    pthread_mutex_lock(&lock);
    bool is_new = flags & O_CREAT && fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) < 0;
    int fd = NEXT(openat)(folder, path, flags, mode);
    end_record(fd >= 0 && is_new, "create", absolute(folder, path, whole), "", 0, NULL, 0);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return openat(AT_FDCWD, path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t size)
{
    char path[PATH_MAX];
    pthread_mutex_lock(&lock);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t n = NEXT(write)(fd, data, size);
    end_record(n > 0, fd == STDERR_FILENO ? "say" : "write", path_of(fd, path), "", offset, data,
               n > 0 ? (size_t)n : 0);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    char path[PATH_MAX];
    pthread_mutex_lock(&lock);
    ssize_t n = NEXT(pwrite)(fd, data, size, offset);
    end_record(n > 0, "write", path_of(fd, path), "", offset, data, n > 0 ? (size_t)n : 0);
    return n;
}

int fsync(int fd)
{
    char path[PATH_MAX];
    pthread_mutex_lock(&lock);
    int rc = NEXT(fsync)(fd);
    end_record(rc == 0, "sync", path_of(fd, path), "", 0, NULL, 0);
    return rc;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    char whole_from[2 * PATH_MAX], whole_to[2 * PATH_MAX];
    pthread_mutex_lock(&lock);
    int rc = NEXT(renameat)(from_folder, from, to_folder, to);
    end_record(rc == 0, "rename", absolute(from_folder, from, whole_from),
               absolute(to_folder, to, whole_to), 0, NULL, 0);
    return rc;
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int symlinkat(const char *target, int folder, const char *path)
{
    char whole[2 * PATH_MAX];
    pthread_mutex_lock(&lock);
    int rc = NEXT(symlinkat)(target, folder, path);
    end_record(rc == 0, "symlink", absolute(folder, path, whole), target, 0, NULL, 0);
    return rc;
}

int unlinkat(int folder, const char *path, int flags)
{
    char whole[2 * PATH_MAX];
    pthread_mutex_lock(&lock);
    int rc = NEXT(unlinkat)(folder, path, flags);
    end_record(rc == 0, "unlink", absolute(folder, path, whole), "", 0, NULL, 0);
    return rc;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    char whole[2 * PATH_MAX];
    pthread_mutex_lock(&lock);
    int rc = NEXT(mkdirat)(folder, path, mode);
    end_record(rc == 0, "mkdir", absolute(folder, path, whole), "", 0, NULL, 0);
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}
