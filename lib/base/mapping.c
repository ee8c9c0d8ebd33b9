// Keeps a list of the mapped files, which a handler of SIGBUS searches.
// SPDX-License-Identifier: MIT
#include "lib/base/mapping.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"

// A signal handler may walk the list at any moment, so entries are reused but never freed, and a
// path is freed only by the next user of its entry.
struct mapped_file {
    atomic_bool used; // the entry belongs to a mapping
    struct mapped_file *next;
    _Atomic(const uint8_t *) data; // NULL while the rest is not valid
    size_t size;
    char *path;
};

static _Atomic(struct mapped_file *) files;

static struct mapped_file *new_mapped_file(void)
{
    for (struct mapped_file *file = atomic_load(&files); file; file = file->next)
        if (!atomic_exchange(&file->used, true))
            return file;
    struct mapped_file *file = mem_new(1, sizeof *file);
    if (!file)
        return NULL;
    atomic_init(&file->used, true);
    file->next = atomic_load(&files);
    while (!atomic_compare_exchange_weak(&files, &file->next, file))
        ;
    return file;
}

static int add_mapping(const struct mapping *mapping, const char *path)
{
    struct mapped_file *file = new_mapped_file();
    char *copy = file ? mem_strdup(path) : NULL;
    if (!copy) {
        if (file)
            atomic_store(&file->used, false);
        return -1;
    }
    free(file->path);
    file->path = copy;
    file->size = mapping->size;
    atomic_store(&file->data, mapping->data);
    return 0;
}

static int map_fd(int fd, const char *path, struct mapping *mapping)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot read", path);
    *mapping = (struct mapping){NULL, (size_t)st.st_size};
    if (mapping->size == 0)
        return 0;
    void *data = mmap(NULL, mapping->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot map %zu bytes", path, mapping->size);
    mapping->data = data;
    if (add_mapping(mapping, path) == 0)
        return 0;
    munmap(data, mapping->size);
    return -1;
}

int file_map(const char *path, struct mapping *mapping)
{
    int fd = file_open_regular(path);
    if (fd < 0)
        return -1;
    int rc = map_fd(fd, path, mapping);
    close(fd);
    return rc;
}

void file_unmap(struct mapping *mapping)
{
    for (struct mapped_file *file = atomic_load(&files); file && mapping->data; file = file->next)
        if (atomic_load(&file->data) == mapping->data) {
            atomic_store(&file->data, NULL);
            munmap((void *)(uintptr_t)mapping->data, mapping->size);
            atomic_store(&file->used, false);
            break;
        }
    *mapping = (struct mapping){NULL, 0};
}

const char *file_mapped_at(const void *address, size_t *offset)
{
    for (struct mapped_file *file = atomic_load(&files); file; file = file->next) {
        uintptr_t data = (uintptr_t)atomic_load(&file->data);
        *offset = (uintptr_t)address - data;
        if (data && (uintptr_t)address >= data && *offset < file->size)
            return file->path;
    }
    return NULL;
}
