// Allocation that fails with an error, never quietly. SPDX-License-Identifier: MIT
#include "lib/base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cgroup.h"
#include "lib/base/error.h"

static void *checked(void *p, size_t n, size_t size)
{
    if (!p)
        error_set(STATUS_INTERNAL, "out of memory (%zu x %zu bytes)", n, size);
    return p;
}

// malloc(0) may return NULL, which callers would take for a failure, so this asks for at least one
// byte.
void *mem_new(size_t n, size_t size)
{
    return checked(n && size ? calloc(n, size) : calloc(1, 1), n, size);
}

void *mem_resize(void *old, size_t n, size_t size)
{
    return checked(n && size ? reallocarray(old, n, size) : realloc(old, 1), n, size);
}

// The elements that mem_grow has made room for in an array of n: a power of two. So arrays need not
// remember their capacity.
static size_t capacity_of(size_t n)
{
    return n <= 64 ? 64 : (size_t)1 << (8 * sizeof n - (size_t)__builtin_clzl(n - 1));
}

int mem_grow(void *array, size_t n, size_t more, size_t size)
{
    void *old;
    size_t needed;
    memcpy(&old, array, sizeof old);
    if (!size_add(n, more, &needed) || needed > SIZE_MAX / 2)
        return error_set(STATUS_INTERNAL, "out of memory (%zu + %zu elements of %zu bytes)", n,
                         more, size);
    if (old && n && needed <= capacity_of(n))
        return 0;
    void *grown = mem_resize(old, capacity_of(needed), size);
    if (!grown)
        return -1;
    memcpy(array, &grown, sizeof grown);
    return 0;
}

uint64_t mem_available(void)
{
    unsigned long long kib = UINT64_MAX >> 10;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file) &&
           sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
        ;
    if (file)
        fclose(file);
    uint64_t machine = (uint64_t)kib << 10, group = cgroup_read("").memory;
    return group < machine ? group : machine;
}

uint64_t mem_resident(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file && fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void mem_keep_freed(void)
{
    mallopt(M_MMAP_THRESHOLD, 16 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
}

char *mem_strdup(const char *s)
{
    return checked(strdup(s), strlen(s) + 1, 1);
}

char *mem_printf(const char *format, ...)
{
    char *text;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    return n < 0 ? checked(NULL, 1, 1) : text;
}
