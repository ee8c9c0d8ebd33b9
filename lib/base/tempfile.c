// Keeps a list of the temporary files, which exit() and signal handlers walk to remove them.
// SPDX-License-Identifier: MIT
#include "lib/base/tempfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A signal handler may walk the list at any moment, so entries are reused but never freed.
struct tempfile {
    // used: the entry belongs to a caller. opening: the file is being created. live: the file
    // exists, and `path` is valid.
    atomic_bool used, opening, live;
    struct tempfile *next;
    int folder; // where `path` begins
    char path[PATH_MAX];
};

static _Atomic(struct tempfile *) files;

void tempfile_remove_all(void)
{
    for (struct tempfile *file = atomic_load(&files); file; file = file->next) {
        // Another thread is creating the file: wait until it is done. It can't be this thread,
        // which would have blocked signals.
        while (atomic_load(&file->opening))
            ;
        if (atomic_exchange(&file->live, false))
            unlinkat(file->folder, file->path, 0);
    }
}

void tempfile_die(int signal)
{
    tempfile_remove_all();
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    raise(signal); // delivered when the handler returns
}

// Registers tempfile_remove_all for exit() and for signals that end the process. A library leaves
// signals to the program otherwise; but without this a killed program would leave its temporary
// files behind. Signals that are ignored or that the program catches keep their action.
static void watch_exit(void)
{
    static const int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM};
    static atomic_flag watching = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&watching))
        return;
    atexit(tempfile_remove_all);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        struct sigaction action;
        if (sigaction(fatal[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
            action = (struct sigaction){.sa_handler = tempfile_die};
            sigaction(fatal[i], &action, NULL);
        }
    }
}

static struct tempfile *new_entry(void)
{
    for (struct tempfile *file = atomic_load(&files); file; file = file->next)
        if (!atomic_exchange(&file->used, true))
            return file;
    struct tempfile *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    atomic_init(&file->used, true);
    file->next = atomic_load(&files);
    while (!atomic_compare_exchange_weak(&files, &file->next, file))
        ;
    return file;
}

// Creates the file under a name that is not taken. -1 with errno.
static int create(struct tempfile *file, int folder, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    int fd = -1;
    file->folder = folder;
    for (unsigned n = 0; fd < 0 && n < 10000; n++) {
        // The base is cut so that a final name of maximum length does not make this one too long.
        int length = snprintf(file->path, sizeof file->path, "%.*s.%.200s.%ld-%u.tmp",
                              (int)(base - path), path, base, (long)getpid(), n);
        if (length < 0 || (size_t)length >= sizeof file->path) {
            errno = ENAMETOOLONG;
            break;
        }
        fd = openat(folder, file->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    return fd;
}

int tempfile_open(int folder, const char *path, struct tempfile **out)
{
    watch_exit();
    struct tempfile *file = new_entry();
    sigset_t all, before;
    if (!file)
        return -1;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    atomic_store(&file->opening, true);
    int fd = create(file, folder, path), error = errno;
    atomic_store(&file->live, fd >= 0);
    atomic_store(&file->opening, false);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (fd < 0)
        atomic_store(&file->used, false);
    *out = file;
    errno = error;
    return fd;
}

const char *tempfile_path(const struct tempfile *file)
{
    return file->path;
}

void tempfile_keep(struct tempfile *file)
{
    atomic_store(&file->live, false);
    atomic_store(&file->used, false);
}

void tempfile_remove(struct tempfile *file)
{
    unlinkat(file->folder, file->path, 0);
    tempfile_keep(file);
}

// A process that wrote nothing yet is not the one of its own number that left a file: in a
// container each start may get the same.
static bool is_another_running(unsigned long pid)
{
    return pid != (unsigned long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH);
}

bool tempfile_is_stray(const char *name, char base[NAME_MAX + 1])
{
    // The form that create() gives them.
    static const char digits[] = "0123456789";
    size_t end = strlen(name), n = 0;
    if (end < 4 || name[0] != '.' || strcmp(name + end - 4, ".tmp") != 0)
        return false;
    const char *numbers = memrchr(name, '.', end - 4);
    if (!numbers || numbers == name || (n = strspn(++numbers, digits)) == 0 || numbers[n] != '-')
        return false;
    snprintf(base, NAME_MAX + 1, "%.*s", (int)(numbers - 2 - name), name + 1);
    unsigned long pid = strtoul(numbers, NULL, 10);
    numbers += n + 1;
    n = strspn(numbers, digits);
    return n > 0 && strcmp(numbers + n, ".tmp") == 0 && pid > 0 && pid <= INT_MAX &&
           !is_another_running(pid);
}
