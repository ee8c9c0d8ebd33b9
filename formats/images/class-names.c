// A list of names with a hash table of their numbers. SPDX-License-Identifier: MIT
#include "formats/images/class-names.h"

#include <search.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/text.h"

#define FILE_SIZE_MAX ((size_t)64 << 20)

// The names are found in a balanced tree: whatever they are, none takes long. `names` points into
// these entries.
struct class_entry {
    uint32_t number;
    uint32_t length;
    char name[]; // terminated
};

static struct class_entry *entry_of(char *name)
{
    return (struct class_entry *)(void *)(name - offsetof(struct class_entry, name));
}

// What is looked for: an entry without its own memory for the name.
struct class_wanted {
    const char *name;
    size_t length;
};

static int compare_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : a_length < b_length ? -1 : a_length > b_length;
}

static int compare_wanted(const void *pa, const void *pb)
{
    const struct class_wanted *a = pa;
    const struct class_entry *b = pb;
    return compare_text(a->name, a->length, b->name, b->length);
}

static int compare_entries(const void *pa, const void *pb)
{
    const struct class_entry *a = pa, *b = pb;
    return compare_text(a->name, a->length, b->name, b->length);
}

void class_names_free(struct class_names *list)
{
    tdestroy(list->tree, free);
    free(list->names);
    *list = (struct class_names){0};
}

int64_t class_names_find(const struct class_names *list, const char *name, size_t length)
{
    struct class_wanted wanted = {name, length};
    struct class_entry *const *found = tfind(&wanted, &list->tree, compare_wanted);
    return found ? (int64_t)(*found)->number : -1;
}

int64_t class_names_add(struct class_names *list, const char *name, size_t length)
{
    int64_t number = class_names_find(list, name, length);
    if (number >= 0)
        return number;
    if (mem_grow(&list->names, list->n, 1, sizeof *list->names) < 0)
        return -1;
    struct class_entry *entry = mem_new(1, sizeof *entry + length + 1);
    if (!entry)
        return -1;
    entry->number = (uint32_t)list->n;
    entry->length = (uint32_t)length;
    memcpy(entry->name, name, length);
    if (!tsearch(entry, &list->tree, compare_entries)) {
        free(entry);
        return error_set(STATUS_INTERNAL, "out of memory");
    }
    list->names[list->n] = entry->name;
    return (int64_t)list->n++;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void class_names_sort(struct class_names *list, uint32_t *rank)
{
    if (list->n)
        qsort(list->names, list->n, sizeof *list->names, compare_names);
    for (size_t i = 0; i < list->n; i++) {
        struct class_entry *entry = entry_of(list->names[i]);
        rank[entry->number] = (uint32_t)i;
        entry->number = (uint32_t)i;
    }
}

int class_names_read(struct class_names *list, const char *path)
{
    uint8_t *text;
    size_t size;
    if (file_read_all(path, &text, &size, FILE_SIZE_MAX) < 0)
        return -1;
    const char *line = (const char *)text, *end = line + size;
    int rc = 0;
    line += text_bom(line, size);
    for (size_t number = 1; line < end && !rc; number++) {
        const size_t whole = strcspn(line, "\n"), length = text_line_length(line, whole);
        if (line[whole] == 0 && line + whole != end)
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
        line += whole + 1;
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

int class_names_parse(const char *text, json_t **names)
{
    *names = NULL;
    if (!text)
        return 0;
    if (safetensors_check_values((const uint8_t *)text, strlen(text)) < 0)
        return error_prefix("the names of the classes");
    json_t *value = json_loads(text, 0, NULL);
    if (json_is_array(value))
        *names = value;
    else
        json_decref(value);
    return 0;
}
