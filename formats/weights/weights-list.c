// Checks, counts and sorts the tensors that a file names. SPDX-License-Identifier: MIT
#include "formats/weights/weights-list.h"

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

int weights_list_add(struct weights_list *list, struct weight weight, const char *name, size_t size)
{
    if (list->n == WEIGHTS_MAX)
        return error_set(STATUS_DATA, "more than %zu tensors", WEIGHTS_MAX);
    if (check_name(name, size) < 0 || weights_list_count_text(list, size) < 0 ||
        reserve_weight(list, size + 1) < 0)
        return -1;
    list->all[list->n++] = weight;
    memcpy(list->names + list->names_size, name, size);
    list->names[list->names_size + size] = 0;
    list->names_size += size + 1;
    return 0;
}

static int compare_weights(const void *a, const void *b, void *user)
{
    const struct weight *all = user;
    return strcmp(all[*(const size_t *)a].name, all[*(const size_t *)b].name);
}

int weights_list_finish(struct weights_list *list)
{
    const char *name = list->names;
    char text[ERROR_SHOWN_SIZE];
    if (!(list->by_name = mem_new(list->n, sizeof *list->by_name)))
        return -1;
    for (size_t i = 0; i < list->n; i++, name += strlen(name) + 1) {
        list->all[i].name = name;
        list->by_name[i] = i;
    }
    qsort_r(list->by_name, list->n, sizeof *list->by_name, compare_weights, list->all);
    for (size_t i = 1; i < list->n; i++) {
        const char *last = list->all[list->by_name[i - 1]].name;
        name = list->all[list->by_name[i]].name;
        if (strcmp(last, name) == 0)
            return error_set(STATUS_DATA, "two tensors are named \"%s\"",
                             error_shown(name, strlen(name), text));
    }
    return 0;
}
