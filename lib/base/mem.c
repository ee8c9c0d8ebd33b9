// SPDX-License-Identifier: MIT
#include "lib/base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"

static void *checked(void *p, size_t n, size_t size)
{
    if (!p)
        error_set(STATUS_INTERNAL, "out of memory: %zu times %zu bytes are not to be had", n, size);
    return p;
}

// malloc(0) may give NULL, which would read as a failure; so nothing is smaller than one byte.
void *mem_new(size_t n, size_t size)
{
    return checked(n && size ? calloc(n, size) : calloc(1, 1), n, size);
}

void *mem_resize(void *old, size_t n, size_t size)
{
    return checked(n && size ? reallocarray(old, n, size) : realloc(old, 1), n, size);
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
    return (uint64_t)kib << 10;
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
