// A preload that fails the N-th call of one kind, to see what a program makes of it.
// SPDX-License-Identifier: MIT
//
//     FAULT=KIND:N[+] FAULT_HIT=FILE LD_PRELOAD=build/tests/fault/fail.so PROGRAM...
//
// KIND is malloc (with mmap), open, read, write, fsync, rename or thread. The N-th call fails, and
// with
// + all later ones do, too. Calls are counted from the program's main on; writes to stderr are not.
// FILE is made when the first call fails, so that one sees whether there were N.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static char kind[16]; // empty before main
static long wanted;
static bool and_later;
static atomic_long calls;
static const char *hit_file;

// Whether this call fails, with errno set.
static bool fails(const char *which, int error)
{
    if (strcmp(which, kind) != 0)
        return false;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (n != wanted && !(and_later && n > wanted))
        return false;
    if (n == wanted && hit_file) // by system calls, which are not counted
        syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, hit_file, O_WRONLY | O_CREAT, 0644));
    errno = error;
    return true;
}

// The next definition of a function, which is libc's.
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags)                                                             \
    __extension__({                                                             \
        va_list ap;                                                             \
        va_start(ap, flags);                                                    \
        mode_t mode = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0; \
        va_end(ap);                                                             \
        mode;                                                                   \
    })

typedef int main_function(int argc, char **argv, char **environment);
int __libc_start_main(main_function *start, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void *stack_end);

static main_function *real_main;

static int count_from_here(int argc, char **argv, char **environment)
{
    const char *fault = getenv("FAULT");
    char plus = 0;
    char name[sizeof kind] = "";
    hit_file = getenv("FAULT_HIT");
    if (!fault || sscanf(fault, "%15[a-z]:%ld%c", name, &wanted, &plus) < 2)
        return 64;
    and_later = plus == '+';
    strcpy(kind, name);
    return real_main(argc, argv, environment);
}

int __libc_start_main(main_function *start, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void *stack_end)
{
    real_main = start;
    return NEXT(__libc_start_main)(count_from_here, argc, argv, init, fini, loader_fini, stack_end);
}

// dlsym allocates, so these call libc's own by their other names.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    return fails("malloc", ENOMEM) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails("malloc", ENOMEM) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return size && fails("malloc", ENOMEM) ? NULL : __libc_realloc(old, size);
}

void *reallocarray(void *old, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(old, bytes);
}

void *memalign(size_t alignment, size_t size)
{
    return fails("malloc", ENOMEM) ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    *memory = memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails("malloc", ENOMEM) ? MAP_FAILED
                                   : NEXT(mmap)(at, size, protection, flags, fd, offset);
}

ssize_t read(int fd, void *bytes, size_t size)
{
    return fails("read", EIO) ? -1 : NEXT(read)(fd, bytes, size);
}

ssize_t pread(int fd, void *bytes, size_t size, off_t offset)
{
    return fails("read", EIO) ? -1 : NEXT(pread)(fd, bytes, size, offset);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    return fd != STDERR_FILENO && fails("write", EIO) ? -1 : NEXT(write)(fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    return fails("write", EIO) ? -1 : NEXT(pwrite)(fd, bytes, size, offset);
}

int fsync(int fd)
{
    return fails("fsync", EIO) ? -1 : NEXT(fsync)(fd);
}

int rename(const char *from, const char *to)
{
    return fails("rename", EACCES) ? -1 : NEXT(rename)(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return fails("rename", EACCES) ? -1 : NEXT(renameat)(from_fd, from, to_fd, to);
}

int open(const char *path, int flags, ...)
{
    return fails("open", EMFILE) ? -1 : NEXT(open)(path, flags, MODE(flags));
}

int openat(int folder, const char *path, int flags, ...)
{
    return fails("open", EMFILE) ? -1 : NEXT(openat)(folder, path, flags, MODE(flags));
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    return fails("thread", EAGAIN) ? EAGAIN
                                   : NEXT(pthread_create)(thread, attributes, run, argument);
}
