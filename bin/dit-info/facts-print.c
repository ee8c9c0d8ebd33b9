// Prints facts: as text for people, as JSON for programs. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bin/dit-info/facts.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/printable.h"
#include "lib/tool/tool.h"

#define VALUE_MAX   240 // bytes of a text that are shown
#define NAME_WIDTH  14
#define WIDTH       90 // columns, after which a list goes on in the next line
#define TENSORS_MAX 64 // that are shown

// Prints a text from a file, or a file's name, so that it can't drive a terminal. Returns its size.
static size_t print_shown(FILE *out, const char *text, size_t size, int width)
{
    char *shown = mem_printf("%.*s", (int)size, text);
    if (!shown)
        tool_fail();
    shown[size = make_printable(shown, strlen(shown))] = 0;
    fprintf(out, "%-*s", width, shown);
    free(shown);
    return size;
}

static void print_name(FILE *out, const char *name)
{
    fputs("  ", out);
    print_shown(out, name, strlen(name), NAME_WIDTH);
    fputc(' ', out);
}

// Prints a text, cut to VALUE_MAX bytes. Returns the number of bytes printed.
static size_t print_cut(FILE *out, const char *text)
{
    size_t length = strlen(text), n = length < VALUE_MAX ? length : VALUE_MAX;
    while (n < length && n && (text[n] & 0xC0) == 0x80) // don't cut within a UTF-8 character
        n--;
    size_t printed = print_shown(out, text, n, 0);
    return printed + (n < length ? (size_t)fprintf(out, "... (%zu bytes)", length) : 0);
}

// Prints a value that is no list. Returns the number of bytes printed.
static size_t print_plain(FILE *out, const json_t *value)
{
    if (json_is_string(value))
        return print_cut(out, json_string_value(value));
    if (json_is_boolean(value))
        return (size_t)fprintf(out, json_is_true(value) ? "yes" : "no");
    if (json_is_integer(value))
        return (size_t)fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_real(value))
        return (size_t)fprintf(out, "%.7g", json_real_value(value));
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    size_t n = print_cut(out, text ? text : "");
    free(text);
    return n;
}

// Begins the next item of a list, in the same line if that has room.
static void separate(FILE *out, size_t *column)
{
    if (*column == 0)
        return;
    if (*column < WIDTH - NAME_WIDTH - 20) {
        *column += (size_t)fprintf(out, ", ");
        return;
    }
    fprintf(out, ",\n  %*s ", NAME_WIDTH, "");
    *column = 0;
}

static void print_members(FILE *out, const json_t *object)
{
    const char *key;
    json_t *value;
    size_t column = 0;
    json_object_foreach((json_t *)object, key, value)
    {
        separate(out, &column);
        column += print_cut(out, key) + 1;
        fputc(' ', out);
        column += print_plain(out, value);
    }
    fputc('\n', out);
}

static void print_items(FILE *out, const json_t *list)
{
    size_t i, column = 0;
    json_t *value;
    json_array_foreach((json_t *)list, i, value)
    {
        separate(out, &column);
        column += print_plain(out, value);
    }
    fputs(i ? "\n" : "none\n", out);
}

// Prints classes by number and name, as many as fit three lines.
static void print_class_list(FILE *out, const json_t *names)
{
    const size_t n = json_array_size(names);
    size_t i = 0, used = (size_t)fprintf(out, "%zu: ", n), column = 0;
    for (; i < n && used < VALUE_MAX; i++) {
        size_t before = column;
        separate(out, &column);
        column += (size_t)fprintf(out, "%zu ", i);
        column += print_cut(out, json_string_value(json_array_get(names, i)));
        used += column > before ? column - before : column;
    }
    fputs(i < n ? ", ... (--classes lists all)\n" : "\n", out);
}

static void print_tensors(FILE *out, const json_t *tensors)
{
    size_t i, k;
    json_t *tensor, *size;
    json_array_foreach((json_t *)tensors, i, tensor)
    {
        size_t shape[TENSOR_RANK_MAX], rank = 0;
        char text[128];
        if (i)
            print_name(out, "");
        if (i == TENSORS_MAX) {
            fprintf(out, "and %zu more, which --json lists\n", json_array_size(tensors) - i);
            return;
        }
        json_array_foreach(json_object_get(tensor, "shape"), k, size) shape[rank++] =
            (size_t)json_integer_value(size);
        print_cut(out, json_string_value(json_object_get(tensor, "name")));
        fprintf(out, " %s %s\n", json_string_value(json_object_get(tensor, "dtype")),
                shape_text(shape, rank, text, sizeof text));
    }
    if (i == 0)
        fputs("none\n", out);
}

static void print_history(FILE *out, const json_t *history)
{
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)history, i, entry)
    {
        print_name(out, i ? "" : "history");
        print_plain(out, entry);
        fputc('\n', out);
    }
}

static void print_bytes(FILE *out, const json_t *facts, json_int_t bytes)
{
    json_int_t raw = json_integer_value(json_object_get(facts, "bytes_raw"));
    fprintf(out, "%" JSON_INTEGER_FORMAT, bytes);
    if (raw)
        fprintf(out, " compressed, %" JSON_INTEGER_FORMAT " raw, ratio %.3f", raw,
                (double)raw / (double)bytes);
    fputc('\n', out);
}

static void print_fact(FILE *out, const json_t *facts, const char *key, const json_t *value)
{
    // What a network is made of is known; its tensors are shown by their types alone.
    const char *kind = json_string_value(json_object_get(facts, "kind"));
    const bool by_types = json_object_get(facts, "types") && strcmp(kind, "weights") != 0;
    if (strcmp(key, "kind") == 0 || strcmp(key, "bytes_raw") == 0 ||
        strcmp(key, by_types ? "tensors" : "types") == 0 || json_is_false(value))
        return;
    if (strcmp(key, "history") == 0) {
        print_history(out, value);
        return;
    }
    if (strcmp(key, "metadata") == 0) {
        json_t *entry;
        json_object_foreach((json_t *)value, key, entry)
        {
            print_name(out, key);
            print_plain(out, entry);
            fputc('\n', out);
        }
        return;
    }
    print_name(out, strcmp(key, "types") == 0 ? "tensors" : key);
    if (strcmp(key, "bytes") == 0) {
        print_bytes(out, facts, json_integer_value(value));
    } else if (strcmp(key, "classes") == 0) {
        print_class_list(out, value);
    } else if (strcmp(key, "tensors") == 0) {
        print_tensors(out, value);
    } else if (strcmp(key, "checked") == 0) {
        fputs(json_object_get(facts, "frames") ? "every frame is good\n"
                                               : "every checksum is right\n",
              out);
    } else if (json_is_object(value)) {
        print_members(out, value);
    } else if (json_is_array(value)) {
        print_items(out, value);
    } else {
        print_plain(out, value);
        fputc('\n', out);
    }
}

void facts_print_text(FILE *out, const char *name, const json_t *facts)
{
    const char *kind = json_string_value(json_object_get(facts, "kind")), *key;
    json_t *value;
    print_shown(out, name, strlen(name), 0);
    fputs(": ", out);
    print_shown(out, kind, strlen(kind), 0);
    fputc('\n', out);
    json_object_foreach((json_t *)facts, key, value) print_fact(out, facts, key, value);
}

void facts_print_json(FILE *out, const char *name, const json_t *facts)
{
    json_t *file = json_string(name); // NULL if it is not UTF-8
    json_t *all = json_pack("{s:o}", "file", file ? file : json_null());
    json_object_update(all, (json_t *)facts);
    json_dumpf(all, out, JSON_COMPACT | JSON_ENSURE_ASCII); // a terminal shows what is escaped
    fputc('\n', out);
    json_decref(all);
}

int facts_print_classes(FILE *out, const char *name, const json_t *facts)
{
    const json_t *names = json_object_get(facts, "classes");
    size_t i;
    json_t *value;
    if (!names)
        return error_set(STATUS_DATA, "%s: it does not say the names of its classes", name);
    json_array_foreach((json_t *)names, i, value)
    {
        fprintf(out, "%zu\t", i);
        const char *text = json_string_value(value);
        print_shown(out, text, strlen(text), 0);
        fputc('\n', out);
    }
    return 0;
}
