// A list of names with a hash table of their numbers. SPDX-License-Identifier: MIT
#include "formats/images/class-names.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"

#define FILE_SIZE_MAX ((size_t)64 << 20)

void class_names_free(struct class_names *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->names[i]);
    free(list->names);
    free(list->slots);
    *list = (struct class_names){0};
}

static bool name_equals(const char *name, const char *text, size_t length)
{
    return strncmp(name, text, length) == 0 && name[length] == 0;
}

// The slot that holds the name, or the empty one where it belongs.
static uint32_t *find_slot(const struct class_names *list, const char *name, size_t length)
{
    for (uint64_t hash = hash_bytes(HASH_START, name, length);; hash++) {
        uint32_t *slot = &list->slots[hash & list->slots_mask];
        if (*slot == 0 || name_equals(list->names[*slot - 1], name, length))
            return slot;
    }
}

static int class_names_grow(struct class_names *list)
{
    size_t n_slots = list->slots ? (size_t)list->slots_mask + 1 : 0;
    if (mem_grow(&list->names, list->n, 1, sizeof *list->names) < 0)
        return -1;
    if (list->n < n_slots / 2)
        return 0;
    n_slots = n_slots ? 2 * n_slots : 128;
    uint32_t *slots = mem_new(n_slots, sizeof *slots);
    if (!slots)
        return -1;
    free(list->slots);
    list->slots = slots;
    list->slots_mask = (uint32_t)(n_slots - 1);
    for (size_t i = 0; i < list->n; i++)
        *find_slot(list, list->names[i], strlen(list->names[i])) = (uint32_t)i + 1;
    return 0;
}

int64_t class_names_find(const struct class_names *list, const char *name, size_t length)
{
    return list->n ? (int64_t)*find_slot(list, name, length) - 1 : -1;
}

int64_t class_names_add(struct class_names *list, const char *name, size_t length)
{
    int64_t number = class_names_find(list, name, length);
    if (number >= 0)
        return number;
    if (class_names_grow(list) < 0)
        return -1;
    char *copy = strndup(name, length);
    if (!copy)
        return error_set(STATUS_INTERNAL, "out of memory");
    uint32_t *slot = find_slot(list, name, length);
    list->names[list->n] = copy;
    *slot = (uint32_t)++list->n;
    return *slot - 1;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int class_names_sort(struct class_names *list, uint32_t *rank)
{
    char **old = mem_new(list->n, sizeof *old);
    if (!old)
        return -1;
    memcpy(old, list->names, list->n * sizeof *old);
    qsort(list->names, list->n, sizeof *list->names, compare_strings);
    memset(list->slots, 0, (list->slots_mask + 1) * sizeof *list->slots);
    for (size_t i = 0; i < list->n; i++)
        *find_slot(list, list->names[i], strlen(list->names[i])) = (uint32_t)i + 1;
    for (size_t i = 0; i < list->n; i++)
        rank[i] = (uint32_t)class_names_find(list, old[i], strlen(old[i]));
    free(old);
    return 0;
}

int class_names_read(struct class_names *list, const char *path)
{
    uint8_t *text;
    size_t size;
    if (file_read_all(path, &text, &size, FILE_SIZE_MAX) < 0)
        return -1;
    const char *line = (const char *)text, *end = line + size;
    int rc = 0;
    for (size_t number = 1; line < end && !rc; number++) {
        size_t length = strcspn(line, "\n");
        if (line[length] == 0 && line + length != end)
            rc = error_set(STATUS_DATA, "%s: line %zu: expected a name, found a NUL byte", path,
                           number);
        else if (length == 0)
            rc = error_set(STATUS_DATA, "%s: line %zu: expected a name, found nothing", path,
                           number);
        else if (class_names_find(list, line, length) >= 0)
            rc = error_set(STATUS_DATA, "%s: line %zu: \"%.*s\" was already on line %lld", path,
                           number, (int)length, line,
                           (long long)class_names_find(list, line, length) + 1);
        else
            rc = class_names_add(list, line, length) < 0 ? -1 : 0;
        line += length + 1;
    }
    if (!rc && list->n == 0)
        rc = error_set(STATUS_DATA, "%s: expected a class name on each line, found an empty file",
                       path);
    free(text);
    return rc;
}

// JSON must be UTF-8, but a folder's name may be any bytes.
static json_t *json_name(const char *name)
{
    json_t *string = json_string(name);
    char *plain = string ? NULL : strdup(name);
    if (!plain)
        return string;
    for (char *p = plain; *p; p++)
        if (*p & 0x80)
            *p = '?';
    string = json_string(plain);
    free(plain);
    return string;
}

char *class_names_json(const struct class_names *list)
{
    json_t *array = json_array();
    bool good = array;
    for (size_t i = 0; i < list->n && good; i++)
        good = json_array_append_new(array, json_name(list->names[i])) == 0;
    char *text = good ? json_dumps(array, JSON_COMPACT) : NULL;
    json_decref(array);
    if (!text)
        error_set(STATUS_INTERNAL, "out of memory");
    return text;
}
