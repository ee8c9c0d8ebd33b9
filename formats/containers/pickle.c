// Memory for the values of a pickle, and tests of what a value is. SPDX-License-Identifier: MIT
#include "formats/containers/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define BLOCK_SIZE ((size_t)64 << 10)

struct pickle_block {
    struct pickle_block *next;
    size_t used, room;
    struct pickle_value memory[];
};

void *pickle_allocate(struct pickle *pickle, size_t size)
{
    struct pickle_block *block = pickle->blocks;
    size = (size + 7) / 8 * 8;
    if (!block || block->room - block->used < size) {
        size_t room = size > BLOCK_SIZE / 4 ? size : BLOCK_SIZE;
        if (!(block = mem_new(1, sizeof *block + room)))
            return NULL;
        block->room = room;
        block->next = pickle->blocks;
        pickle->blocks = block;
    }
    block->used += size;
    return (uint8_t *)block->memory + block->used - size;
}

int pickle_list_add(struct pickle *pickle, struct pickle_list *list,
                    const struct pickle_value *items, size_t n)
{
    if (n > list->room - list->n) {
        size_t room = 2 * list->room > list->n + n ? 2 * list->room : list->n + n;
        struct pickle_value *larger = pickle_allocate(pickle, room * sizeof *larger);
        if (!larger)
            return -1;
        if (list->n)
            memcpy(larger, list->items, list->n * sizeof *larger);
        list->items = larger;
        list->room = room;
    }
    if (n)
        memcpy(list->items + list->n, items, n * sizeof *items);
    list->n += n;
    return 0;
}

void pickle_free(struct pickle *pickle)
{
    while (pickle->blocks) {
        struct pickle_block *block = pickle->blocks;
        pickle->blocks = block->next;
        free(block);
    }
    *pickle = (struct pickle){0};
}

bool pickle_is_text(const struct pickle_value *value, const char *text)
{
    return value->type == PICKLE_TEXT && value->size == strlen(text) &&
           !memcmp(value->text, text, value->size);
}

bool pickle_is_global(const struct pickle_value *value, const char *module, const char *name)
{
    return value->type == PICKLE_GLOBAL && pickle_is_text(&value->items[0], module) &&
           pickle_is_text(&value->items[1], name);
}

const char *pickle_shown(const struct pickle_value *value, char out[PICKLE_SHOWN_SIZE])
{
    static const char *const names[] = {
        [PICKLE_NONE] = "None",
        [PICKLE_BOOL] = "a truth value",
        [PICKLE_INT] = "an integer",
        [PICKLE_FLOAT] = "a float",
        [PICKLE_TEXT] = "text",
        [PICKLE_BYTES] = "bytes",
        [PICKLE_TUPLE] = "a tuple",
        [PICKLE_LIST] = "a list",
        [PICKLE_SET] = "a set",
        [PICKLE_DICT] = "a dict",
        [PICKLE_CALL] = "an object",
        [PICKLE_PERSISTENT] = "a storage",
        [PICKLE_INTEGER] = "an integer of more than 64 bits",
        [PICKLE_ESCAPED] = "text with escapes",
    };
    const char *before = "";
    if (value->type == PICKLE_CALL && value->call->callee.type == PICKLE_GLOBAL) {
        before = "a call of ";
        value = &value->call->callee;
    }
    char module[ERROR_SHOWN_SIZE], name[ERROR_SHOWN_SIZE];
    if (value->type == PICKLE_GLOBAL)
        snprintf(out, PICKLE_SHOWN_SIZE, "%s%.50s.%.50s", before,
                 error_shown(value->items[0].text, value->items[0].size, module),
                 error_shown(value->items[1].text, value->items[1].size, name));
    else
        snprintf(out, PICKLE_SHOWN_SIZE, "%s", names[value->type]);
    return out;
}
