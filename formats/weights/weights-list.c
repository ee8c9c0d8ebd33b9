// Checks, counts and sorts the tensors that a file names. SPDX-License-Identifier: MIT
#include "formats/weights/weights-list.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

static int check_name(const char *name, size_t size)
{
    char text[ERROR_SHOWN_SIZE];
    error_shown(name, size, text);
    if (size == 0)
        return error_set(STATUS_DATA, "a tensor without a name");
    if (size > WEIGHTS_NAME_MAX)
        return error_set(STATUS_DATA, "tensor \"%s...\": a name of %zu bytes, at most %d", text,
                         size, WEIGHTS_NAME_MAX);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7F)
            return error_set(STATUS_DATA, "tensor \"%s\": control characters in its name", text);
    json_t *string = json_stringn(name, size);
    if (!string)
        return error_set(STATUS_DATA, "tensor \"%s\": its name is not UTF-8", text);
    json_decref(string);
    return 0;
}

int weights_list_count_text(struct weights_list *list, size_t size)
{
    list->text_size += size;
    return list->text_size > WEIGHTS_TEXT_SIZE_MAX
               ? error_set(STATUS_DATA, "names and metadata of more than %zu bytes",
                           WEIGHTS_TEXT_SIZE_MAX)
               : 0;
}

// Makes room for one more tensor and its name.
static int reserve_weight(struct weights_list *list, size_t name_size)
{
    if (mem_grow(&list->all, list->n, 1, sizeof *list->all) < 0)
        return -1;
    return mem_grow(&list->names, list->names_size, name_size, 1);
}

static bool is_wrapper(const char *word, size_t size)
{
    static const char *const wrappers[] = {"module", "_orig_mod", "_forward_module",
                                           "_checkpoint_wrapped_module", "_fsdp_wrapped_module"};
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
        if (strlen(wrappers[i]) == size && memcmp(wrappers[i], word, size) == 0)
            return true;
    return false;
}

// Copies a name without its wrappers' words, all of which but the last may be such; returns its
// length.
static size_t unwrap_name(const char *name, size_t size, char *out)
{
    size_t length = 0;
    for (const char *word = name, *end = name + size; word < end;) {
        const char *dot = memchr(word, '.', (size_t)(end - word));
        size_t n = dot ? (size_t)(dot - word) + 1 : (size_t)(end - word);
        if (!dot || !is_wrapper(word, n - 1)) {
            memcpy(out + length, word, n);
            length += n;
        }
        word += n;
    }
    return length;
}

static int check_weight(struct weights_list *list, const char *name, size_t size)
{
    if (list->n + json_object_size(list->unsupported) == WEIGHTS_MAX)
        return error_set(STATUS_DATA, "more than %zu tensors", WEIGHTS_MAX);
    return check_name(name, size) < 0 ? -1 : weights_list_count_text(list, size);
}

int weights_list_add(struct weights_list *list, struct weight weight, const char *name, size_t size)
{
    if (check_weight(list, name, size) < 0 || reserve_weight(list, size + 1) < 0)
        return -1;
    list->all[list->n++] = weight;
    list->names_size += unwrap_name(name, size, list->names + list->names_size);
    list->names[list->names_size++] = 0;
    return 0;
}

int weights_list_add_unsupported(struct weights_list *list, const char *name, size_t size,
                                 const char *type)
{
    char unwrapped[WEIGHTS_NAME_MAX + 1], shown[ERROR_SHOWN_SIZE];
    if (check_weight(list, name, size) < 0)
        return -1;
    unwrapped[unwrap_name(name, size, unwrapped)] = 0;
    error_shown(type, strlen(type), shown);
    if (!list->unsupported && !(list->unsupported = json_object()))
        return error_set(STATUS_INTERNAL, "out of memory");
    return json_object_set_new(list->unsupported, unwrapped, json_string(shown)) < 0
               ? error_set(STATUS_INTERNAL, "out of memory")
               : 0;
}

// An error if there is nothing else.
static int check_supported(const struct weights_list *list)
{
    const char *name, *type;
    char text[ERROR_SHOWN_SIZE];
    json_t *value;
    if (list->n > 0)
        return 0;
    json_object_foreach(list->unsupported, name, value)
    {
        type = json_string_value(value);
        return error_set(STATUS_DATA, "tensor \"%s\": its type %s is not supported",
                         error_shown(name, strlen(name), text), type);
    }
    return 0;
}

static int compare_weights(const void *a, const void *b, void *user)
{
    const struct weight *all = user;
    return strcmp(all[*(const size_t *)a].name, all[*(const size_t *)b].name);
}

int weights_list_sort(const struct weight *all, size_t n, size_t *by_name)
{
    char text[ERROR_SHOWN_SIZE];
    for (size_t i = 0; i < n; i++)
        by_name[i] = i;
    qsort_r(by_name, n, sizeof *by_name, compare_weights, (void *)(uintptr_t)all);
    for (size_t i = 1; i < n; i++) {
        const char *last = all[by_name[i - 1]].name, *name = all[by_name[i]].name;
        if (strcmp(last, name) == 0)
            return error_set(STATUS_DATA, "two tensors are named \"%s\"",
                             error_shown(name, strlen(name), text));
    }
    return 0;
}

int weights_list_finish(struct weights_list *list)
{
    const char *name = list->names;
    if (check_supported(list) < 0)
        return -1;
    if (!(list->by_name = mem_new(list->n, sizeof *list->by_name)))
        return -1;
    for (size_t i = 0; i < list->n; i++, name += strlen(name) + 1)
        list->all[i].name = name;
    return weights_list_sort(list->all, list->n, list->by_name);
}
