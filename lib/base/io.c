// Files: reading, and writing by way of a temporary name. SPDX-License-Identifier: MIT
#include "lib/base/io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/tempfile.h"

struct output {
    int fd;
    bool regular, rewritable;
    uint64_t start, offset; // the file position at opening; bytes written since
    char *path;             // as given; NULL for standard output
    int folder;             // where `target` begins: a descriptor of its own, or AT_FDCWD
    char *target;           // the file to replace, with links followed
    struct tempfile *temp;  // NULL if fd is the file itself
    struct stat replaced;   // the target before; st_mode 0 if there was none
};

static void output_free(struct output *output)
{
    if (output->folder >= 0)
        close(output->folder);
    free(output->path);
    free(output->target);
    free(output);
}

// The file that a name in the folder stands for, with links followed. NULL with an error.
static char *follow_link(int folder, const char *name)
{
    struct stat st;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode))
        return mem_strdup(name);
    char *path =
        folder == AT_FDCWD ? mem_strdup(name) : mem_printf("/proc/self/fd/%d/%s", folder, name);
    char *target = path ? realpath(path, NULL) : NULL;
    if (path && !target)
        error_set_errno(STATUS_CANT_CREATE, "%s: cannot resolve", name);
    free(path);
    return target;
}

// Devices and FIFOs are written to directly; other files are replaced when complete.
static int open_name(struct output *output, const char *name)
{
    const char *path = output->path;
    struct stat *st = &output->replaced;
    bool exists = fstatat(output->folder, name, st, 0) == 0;
    if (exists && !S_ISREG(st->st_mode)) {
        output->fd = openat(output->folder, name, O_WRONLY | O_CLOEXEC);
        return output->fd < 0 ? error_set_errno(STATUS_CANT_CREATE, "%s: cannot open", path) : 0;
    }
    // Renaming would also replace a read-only file.
    if (exists && faccessat(output->folder, name, W_OK, 0) < 0)
        return error_set_errno(STATUS_CANT_CREATE, "%s: cannot replace", path);
    output->target = exists ? follow_link(output->folder, name) : mem_strdup(name);
    if (!output->target)
        return -1;
    if (!exists)
        st->st_mode = 0;
    output->fd = tempfile_open(output->folder, output->target, &output->temp);
    if (output->fd < 0)
        return error_set_errno(STATUS_CANT_CREATE, "%s: cannot create", path);
    output->regular = output->rewritable = true;
    return 0;
}

static struct output *output_new(void)
{
    struct output *output = mem_new(1, sizeof *output);
    if (output)
        output->folder = AT_FDCWD;
    return output;
}

struct output *output_open(const char *path)
{
    struct output *output = output_new();
    if (!output)
        return NULL;
    if (!path || strcmp(path, "-") == 0) {
        struct stat st;
        if (fd_refuse_terminal(STDOUT_FILENO, "standard output") < 0) {
            output_free(output);
            return NULL;
        }
        output->fd = STDOUT_FILENO;
        output->regular = fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
        off_t start = lseek(STDOUT_FILENO, 0, SEEK_CUR);
        int flags = fcntl(STDOUT_FILENO, F_GETFL);
        output->rewritable = output->regular && start >= 0 && flags >= 0 && !(flags & O_APPEND);
        output->start = output->rewritable ? (uint64_t)start : 0;
        return output;
    }
    output->path = mem_strdup(path);
    if (!output->path || open_name(output, path) < 0) {
        output_free(output);
        return NULL;
    }
    return output;
}

struct output *output_open_in(int folder, const char *path)
{
    struct output *output = output_new();
    if (!output)
        return NULL;
    const char *slash = strrchr(path, '/');
    output->path = mem_strdup(path);
    int rc = output->path ? 0 : -1;
    if (rc == 0 && (output->folder = fcntl(folder, F_DUPFD_CLOEXEC, 0)) < 0)
        rc = error_set_errno(STATUS_CANT_CREATE, "%s: cannot open its folder", path);
    if (rc == 0 && open_name(output, slash ? slash + 1 : path) == 0)
        return output;
    output_free(output);
    return NULL;
}

static int write_failed(const struct output *output, uint64_t offset)
{
    return error_set_errno(STATUS_IO, "%s: cannot write at byte %" PRIu64, output_name(output),
                           offset);
}

int output_write(struct output *output, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    while (size) {
        ssize_t n = write(output->fd, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE) // SIGPIPE is blocked or ignored: ends the process as it would
            tempfile_die(SIGPIPE);
        if (n < 0)
            return write_failed(output, output->offset);
        bytes += n, size -= (size_t)n, output->offset += (uint64_t)n;
    }
    return 0;
}

int output_write_at(struct output *output, const void *data, size_t size, uint64_t offset)
{
    assert(output_can_rewrite(output) && offset + size <= output->offset);
    const uint8_t *bytes = data;
    while (size) {
        ssize_t n = pwrite(output->fd, bytes, size, (off_t)(output->start + offset));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return write_failed(output, offset);
        bytes += n, size -= (size_t)n, offset += (uint64_t)n;
    }
    return 0;
}

bool output_is_file(const struct output *output)
{
    return output->regular;
}

bool output_can_rewrite(const struct output *output)
{
    return output->rewritable;
}

const char *output_name(const struct output *output)
{
    return output->path ? output->path : "standard output";
}

uint64_t output_offset(const struct output *output)
{
    return output->offset;
}

// A renamed file has its new name on the disk only when its folder is synced. Some file systems
// can't do that; then nothing safer can be done.
static int sync_folder_of(int folder, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash == path ? mem_strdup("/") : mem_strdup(path);
    if (!parent)
        return -1;
    if (slash && slash != path)
        parent[slash - path] = 0;
    int fd = openat(folder, slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (fd < 0)
        return 0; // the folder is writable but not readable
    int rc = fsync(fd) < 0 && errno != EINVAL ? -1 : 0;
    if (rc < 0)
        error_set_errno(STATUS_IO, "%s: cannot sync its folder", path);
    close(fd);
    return rc;
}

// The permissions that open() would have given to a new file. umask() can be read only by changing
// it, which would reach the files that other threads create meanwhile.
static mode_t new_file_mode(void)
{
    char line[128];
    unsigned mask;
    bool found = false;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && !found && fgets(line, sizeof line, file))
        found = sscanf(line, "Umask: %o", &mask) == 1;
    if (file)
        fclose(file);
    if (!found)
        umask(mask = umask(077));
    return 0666 & ~(mode_t)mask;
}

// A temporary file is its owner's alone, as the file that it replaces may be. Gives it the
// permissions of that file and, as far as this process may, its owner and group; or those of a new
// file. Rights of a group that it can't have are not given to another.
static int set_mode(const struct output *output)
{
    const struct stat *old = &output->replaced;
    struct stat st;
    if (!output->temp)
        return 0;
    if (!old->st_mode) {
        (void)!fchmod(output->fd, new_file_mode()); // some file systems have no permissions
        return 0;
    }
    mode_t mode = old->st_mode & 0777;
    if (fchown(output->fd, old->st_uid, old->st_gid) < 0 && // only root gives files away
        fchown(output->fd, (uid_t)-1, old->st_gid) < 0)
        mode &= ~(mode_t)S_IRWXG;
    if (fchmod(output->fd, mode) < 0 && (fstat(output->fd, &st) < 0 || (st.st_mode & 0777) != mode))
        return error_set_errno(STATUS_CANT_CREATE,
                               "%s: cannot give it the permissions of the file that it replaces",
                               output_name(output));
    return 0;
}

int output_commit(struct output *output)
{
    int rc = set_mode(output);
    const char *name = output_name(output);
    if (rc == 0 && output->temp && fsync(output->fd) < 0)
        rc = error_set_errno(STATUS_IO, "%s: cannot sync", name);
    // Standard output stays open: the program closes it at its end.
    if (output->path && close(output->fd) < 0 && rc == 0)
        rc = error_set_errno(STATUS_IO, "%s: cannot close", name);
    if (output->temp) {
        const char *temp = tempfile_path(output->temp);
        if (rc == 0 && renameat(output->folder, temp, output->folder, output->target) < 0)
            rc = error_set_errno(STATUS_CANT_CREATE, "%s: cannot rename %s to it", name, temp);
        if (rc < 0)
            tempfile_remove(output->temp);
        else {
            tempfile_keep(output->temp);
            rc = sync_folder_of(output->folder, output->target);
        }
    }
    output_free(output);
    return rc;
}

void output_discard(struct output *output)
{
    if (!output)
        return;
    if (output->path)
        close(output->fd);
    if (output->temp)
        tempfile_remove(output->temp);
    output_free(output);
}

const char *file_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

bool file_is_regular(const char *path)
{
    struct stat st;
    bool found = (strcmp(path, "-") == 0 ? fstat(STDIN_FILENO, &st) : stat(path, &st)) == 0;
    return found && S_ISREG(st.st_mode);
}

// The folder of a path; false if there is none.
static bool stat_folder(const char *path, const char *name, struct stat *st)
{
    char folder[PATH_MAX];
    const int n = snprintf(folder, sizeof folder, "%.*s.", (int)(name - path), path);
    return n < (int)sizeof folder && stat(folder, st) == 0;
}

bool file_is_same(const char *a, const char *b)
{
    struct stat x, y;
    const bool a_exists = stat(a, &x) == 0, b_exists = stat(b, &y) == 0;
    if (a_exists && b_exists)
        return (S_ISREG(x.st_mode) || S_ISFIFO(x.st_mode)) && x.st_dev == y.st_dev &&
               x.st_ino == y.st_ino;
    if (a_exists || b_exists)
        return false;
    const char *a_slash = strrchr(a, '/'), *b_slash = strrchr(b, '/');
    const char *a_name = a_slash ? a_slash + 1 : a, *b_name = b_slash ? b_slash + 1 : b;
    return strcmp(a_name, b_name) == 0 && stat_folder(a, a_name, &x) &&
           stat_folder(b, b_name, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int open_input(const char *path)
{
    if (strcmp(path, "-") == 0)
        return STDIN_FILENO;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? error_set_errno(STATUS_NO_INPUT, "%s: cannot open", path) : fd;
}

int file_open_regular(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // a FIFO is refused, not waited for
    if (fd < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot open", path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return error_set(STATUS_NO_INPUT, "%s: expected a regular file", path);
}

// Reads to the end in growing steps; a byte beyond size_max shows that there is too much.
static int read_all(int fd, const char *name, uint8_t **data, size_t *size, size_t size_max)
{
    struct stat st;
    size_t used = 0, room = 64 << 10;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        room = (uint64_t)st.st_size > size_max ? size_max : (size_t)st.st_size;
    uint8_t *bytes = NULL;
    for (;;) {
        size_t want = 0, got = 0, total;
        if (!size_add(used, room, &want) || want > size_max)
            want = size_max;
        if (!size_add(want, 2, &total)) {
            error_set(STATUS_INTERNAL, "out of memory: %s is too large", name);
            break;
        }
        uint8_t *larger = mem_resize(bytes, total, 1);
        if (!larger)
            break;
        bytes = larger;
        if (fd_read_full(fd, bytes + used, want + 1 - used, &got) < 0) {
            error_set_errno(STATUS_NO_INPUT, "%s: cannot read at byte %zu", name, used);
            break;
        }
        used += got;
        if (used <= want) {
            bytes[used] = 0;
            *data = bytes;
            *size = used;
            return 0;
        }
        if (want == size_max) {
            error_set(STATUS_DATA, "%s: expected at most %zu bytes, found more", name, size_max);
            break;
        }
        room = used;
    }
    free(bytes);
    return -1;
}

int file_read_all(const char *path, uint8_t **data, size_t *size, size_t size_max)
{
    int fd = open_input(path);
    if (fd < 0)
        return -1;
    int rc = read_all(fd, file_name(path), data, size, size_max);
    if (fd != STDIN_FILENO)
        close(fd);
    return rc;
}

int file_read_regular(const char *path, uint8_t **data, size_t *size, size_t size_max)
{
    int fd = file_open_regular(path);
    if (fd < 0)
        return -1;
    int rc = read_all(fd, path, data, size, size_max);
    close(fd);
    return rc;
}

long line_read(FILE *file, int end, char *text, size_t size)
{
    size_t n = 0;
    int c = 0;
    while (n < size && (c = getc_unlocked(file)) != EOF && c != end)
        text[n++] = (char)c;
    text[n < size ? n : size - 1] = 0;
    return ferror(file) || (c == EOF && n == 0) ? -1 : (long)n;
}

int fd_refuse_terminal(int fd, const char *name)
{
    if (!isatty(fd))
        return 0;
    return error_set(STATUS_USAGE, "%s is a terminal; redirect it or %s", name,
                     fd == STDIN_FILENO ? "pipe a program into it" : "use -o FILE");
}

int fd_read_full(int fd, void *data, size_t size, size_t *got)
{
    *got = 0;
    while (*got < size) {
        ssize_t n = read(fd, (uint8_t *)data + *got, size - *got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

int fd_pread_full(int fd, void *data, size_t size, uint64_t offset, size_t *got)
{
    *got = 0;
    while (*got < size) {
        ssize_t n = pread(fd, (uint8_t *)data + *got, size - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

int folder_make(const char *path)
{
    char *parent = mem_strdup(path);
    if (!parent)
        return -1;
    int rc = 0;
    for (char *end = parent; rc == 0 && end;) {
        end = strchr(end + (*end != 0), '/');
        if (end)
            *end = 0;
        struct stat st;
        if (mkdir(parent, 0777) == 0)
            rc = sync_folder_of(AT_FDCWD, parent);
        else if (errno != EEXIST)
            rc = error_set_errno(STATUS_CANT_CREATE, "%s: cannot make folder", parent);
        else if (stat(parent, &st) < 0 || !S_ISDIR(st.st_mode))
            rc = error_set(STATUS_CANT_CREATE, "%s: expected a folder", parent);
        if (end)
            *end = '/';
    }
    free(parent);
    return rc;
}

char *path_join(const char *folder, const char *name)
{
    size_t length = strlen(folder);
    return mem_printf("%s%s%s", folder, length && folder[length - 1] != '/' ? "/" : "", name);
}

char *path_last_part(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return mem_printf("%.*s", (int)(end - start), path + start);
}
