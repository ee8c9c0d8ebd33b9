// Parses one pair of a name and a label after the other: a tree of all would take ten times the
// text's memory. SPDX-License-Identifier: MIT
#include "formats/images/dataset-json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define VALUE_MAX ((size_t)64 << 10) // bytes of a pair, or of what stands beside the labels

struct dataset_label {
    size_t name; // where it begins in the names
    int64_t label;
};

struct json_cursor {
    const char *text;
    size_t at, size;
};

static int cursor_error(const struct json_cursor *cursor, const char *expected)
{
    return error_set(STATUS_DATA, "byte %zu: expected %s", cursor->at, expected);
}

// The next byte that is not white space, or 0 at the end.
static char cursor_peek(struct json_cursor *cursor)
{
    while (cursor->at < cursor->size && strchr(" \t\r\n", cursor->text[cursor->at]))
        cursor->at++;
    return cursor->at < cursor->size ? cursor->text[cursor->at] : 0;
}

static bool cursor_take(struct json_cursor *cursor, char wanted)
{
    const bool same = cursor_peek(cursor) == wanted;
    cursor->at += same;
    return same;
}

// The next value; NULL with an error.
static json_t *cursor_value(struct json_cursor *cursor, const char *expected)
{
    json_error_t wrong;
    cursor_peek(cursor);
    const size_t left = cursor->size - cursor->at;
    json_t *value = json_loadb(cursor->text + cursor->at, left < VALUE_MAX ? left : VALUE_MAX,
                               JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &wrong);
    if (value)
        cursor->at += (size_t)wrong.position;
    else
        cursor_error(cursor, expected);
    return value;
}

static int add_label(struct dataset_labels *labels, const json_t *name, int64_t label)
{
    const size_t size = json_string_length(name) + 1;
    if (mem_grow(&labels->sorted, labels->n, 1, sizeof *labels->sorted) < 0 ||
        mem_grow(&labels->names, labels->names_size, size, 1) < 0)
        return -1;
    memcpy(labels->names + labels->names_size, json_string_value(name), size);
    labels->sorted[labels->n++] = (struct dataset_label){labels->names_size, label};
    labels->names_size += size;
    return 0;
}

static int parse_pairs(struct dataset_labels *labels, struct json_cursor *cursor)
{
    static const char expected[] = "a file's name and its class, as [\"a/1.png\", 7]";
    labels->known = true;
    if (cursor_take(cursor, ']'))
        return 0;
    do {
        cursor_peek(cursor);
        const size_t at = cursor->at;
        json_t *pair = cursor_value(cursor, expected);
        if (!pair)
            return -1;
        const json_t *name = json_array_get(pair, 0), *label = json_array_get(pair, 1);
        int rc = -1;
        if (json_array_size(pair) == 2 && json_is_string(name) && json_is_integer(label) &&
            json_integer_value(label) >= 0)
            rc = add_label(labels, name, json_integer_value(label));
        else
            cursor_error(&(struct json_cursor){.at = at}, expected);
        json_decref(pair);
        if (rc < 0)
            return -1;
    } while (cursor_take(cursor, ','));
    return cursor_take(cursor, ']') ? 0 : cursor_error(cursor, "',' or ']'");
}

static int compare_labels(const void *a, const void *b, void *names)
{
    const struct dataset_label *x = a, *y = b;
    return strcmp((const char *)names + x->name, (const char *)names + y->name);
}

int dataset_labels_parse(struct dataset_labels *labels, const char *text, size_t size)
{
    struct json_cursor cursor = {text, 0, size};
    if (!cursor_take(&cursor, '{'))
        return cursor_error(&cursor, "'{'");
    if (cursor_take(&cursor, '}'))
        return 0;
    do {
        json_t *key = cursor_value(&cursor, "a name in quotes");
        if (!key)
            return -1;
        const bool is_labels = json_is_string(key) && !strcmp(json_string_value(key), "labels");
        json_decref(key);
        if (!cursor_take(&cursor, ':'))
            return cursor_error(&cursor, "':'");
        if (is_labels && cursor_take(&cursor, '[')) {
            if (parse_pairs(labels, &cursor) < 0)
                return -1;
        } else {
            json_t *other = cursor_value(&cursor, "a value of at most 64 KiB");
            if (!other)
                return -1;
            json_decref(other);
        }
    } while (cursor_take(&cursor, ','));
    if (!cursor_take(&cursor, '}'))
        return cursor_error(&cursor, "',' or '}'");
    if (labels->n)
        qsort_r(labels->sorted, labels->n, sizeof *labels->sorted, compare_labels, labels->names);
    return 0;
}

bool dataset_labels_find(const struct dataset_labels *labels, const char *name, int64_t *label)
{
    size_t low = 0, high = labels->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct dataset_label *entry = &labels->sorted[middle];
        const int order = strcmp(name, labels->names + entry->name);
        if (order == 0) {
            *label = entry->label;
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

void dataset_labels_free(struct dataset_labels *labels)
{
    free(labels->sorted);
    free(labels->names);
    *labels = (struct dataset_labels){0};
}
