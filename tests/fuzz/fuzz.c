// Chooses and runs a fuzz target, and gives it its files. SPDX-License-Identifier: MIT
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mapping.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

static const struct {
    const char *name;
    void (*run)(const uint8_t *data, size_t size);
} targets[] = {
#define FUZZ_ROW(name) {#name, fuzz_##name},
    FUZZ_TARGETS(FUZZ_ROW)
#undef FUZZ_ROW
};
static void (*chosen)(const uint8_t *data, size_t size);

int fuzz_choose(const char *name)
{
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (strcmp(name, targets[i].name) == 0) {
            chosen = targets[i].run;
            tool.quiet = true;
            tool.progress = tool.provenance = false;
            tool.threads = 1;
            return 0;
        }
    return -1;
}

// libFuzzer's hooks. It knows the target by $FUZZ_TARGET.
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const char *name = getenv("FUZZ_TARGET");
    if (name && fuzz_choose(name) == 0)
        return 0;
    fputs("fuzz: FUZZ_TARGET names no target\n", stderr);
    exit(STATUS_USAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    error_set(STATUS_OK, "%s", "");
    chosen(data, size);
    return 0;
}

void fuzz_promise(bool kept, const char *promise)
{
    if (kept)
        return;
    fprintf(stderr, "fuzz: broken promise: %s (error %d: \"%s\")\n", promise, error_status(),
            error_message());
    abort();
}

void fuzz_check_error(void)
{
    enum status status = error_status();
    fuzz_promise(*error_message(), "a call that fails sets a message");
    fuzz_promise(status >= STATUS_USAGE && status <= STATUS_IO, "a call that fails sets a status");
    fuzz_promise(status != STATUS_INTERNAL || strstr(error_message(), "memory"),
                 "bad input is no internal error");
}

bool fuzz_succeeded(int rc)
{
    if (rc < 0)
        fuzz_check_error();
    return rc >= 0;
}

// Files in memory are the quicker.
static char folder[] = "/dev/shm/fuzz-XXXXXX", elsewhere[] = "/tmp/fuzz-XXXXXX";
static char *folder_made;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder_made, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
    if (!folder_made) {
        folder_made = mkdtemp(folder);
        if (!folder_made)
            folder_made = mkdtemp(elsewhere);
        fuzz_promise(folder_made, "there is room for a temporary folder");
        atexit(remove_folder);
    }
    return folder_made;
}

char *fuzz_path(const char *name)
{
    char *path = path_join(fuzz_folder(), name);
    fuzz_promise(path, "there is memory for a path");
    return path;
}

void fuzz_write(const char *name, const uint8_t *data, size_t size)
{
    char *path = fuzz_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    fuzz_promise(fd >= 0 && write(fd, data, size) == (ssize_t)size, "files can be written");
    close(fd);
    free(path);
}

struct fuzz_bytes fuzz_take(struct fuzz_bytes *from, size_t size)
{
    struct fuzz_bytes taken = {from->data, size < from->size ? size : from->size};
    from->data += taken.size;
    from->size -= taken.size;
    return taken;
}

size_t fuzz_number(struct fuzz_bytes *from, size_t size)
{
    struct fuzz_bytes bytes = fuzz_take(from, size);
    size_t number = 0;
    for (size_t i = bytes.size; i-- > 0;)
        number = number << 8 | bytes.data[i];
    return number;
}

// The linker puts these in the place of file_map and file_unmap (--wrap). A copy ends where the
// file ends, while the rest of a mapping's last page hides reads past the end.
int __real_file_map(const char *path, struct mapping *mapping);
void __real_file_unmap(struct mapping *mapping);
int __wrap_file_map(const char *path, struct mapping *mapping);
void __wrap_file_unmap(struct mapping *mapping);

int __wrap_file_map(const char *path, struct mapping *mapping)
{
    struct mapping real;
    *mapping = (struct mapping){0};
    if (__real_file_map(path, &real) < 0)
        return -1;
    uint8_t *copy = real.size ? malloc(real.size) : NULL;
    if (copy)
        memcpy(copy, real.data, real.size);
    *mapping = (struct mapping){.data = copy, .size = real.size};
    __real_file_unmap(&real);
    return copy || !mapping->size ? 0 : error_set(STATUS_INTERNAL, "no memory for %s", path);
}

void __wrap_file_unmap(struct mapping *mapping)
{
    free((void *)(uintptr_t)mapping->data);
    *mapping = (struct mapping){0};
}
