// Reads Python's pickles into values. Nothing is imported and nothing is called.
// SPDX-License-Identifier: MIT
#ifndef DIT_PICKLE_H
#define DIT_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The most operations of a pickle; values then take at most 70 MiB of memory.
#define PICKLE_OPERATIONS_MAX ((size_t)1 << 20)

enum pickle_type {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT, // should be UTF-8; not terminated
    PICKLE_BYTES,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_SET,
    PICKLE_DICT,
    PICKLE_GLOBAL,     // the name of a class or function
    PICKLE_CALL,       // the result of a call that was not made
    PICKLE_PERSISTENT, // an object outside the pickle
    PICKLE_INTEGER,    // an integer of more than 64 bits, as its bytes or text
    PICKLE_ESCAPED,    // text of protocol 0 with backslashes, which are not decoded
    PICKLE_MARK,       // private
};

// Values refer to containers by pointers, so they form a graph, which may have cycles.
struct pickle_value {
    enum pickle_type type;
    uint32_t size; // TEXT, BYTES, INTEGER: bytes; TUPLE: items
    union {
        bool truth;
        int64_t integer;
        double number;
        const char *text;                 // points into the pickle's bytes
        const struct pickle_value *items; // TUPLE; GLOBAL: module and name; PERSISTENT: its id
        struct pickle_list *list;         // LIST, SET; DICT: keys and values in turn
        struct pickle_call *call;
    };
};

struct pickle_list {
    struct pickle_value *items;
    size_t n, room;
};

struct pickle_call {
    struct pickle_value callee, args;
    struct pickle_value state; // the argument of BUILD; NONE if there was none
    struct pickle_list items;  // keys and values, in turn, that were set on the result
};

struct pickle_persistent {
    struct pickle_value id;
    const struct pickle_persistent *next;
};

struct pickle {
    struct pickle_value root;
    size_t end;                             // offset of the first byte after the pickle
    const struct pickle_persistent *others; // all persistent ids
    struct pickle_block *blocks;            // private
};

// Reads the pickle, of protocol 0 to 5, that begins at offset `start`. The bytes must outlive it.
// -1 with an error (65) that names the byte.
int pickle_read(struct pickle *pickle, const uint8_t *bytes, size_t start, size_t size);
void pickle_free(struct pickle *pickle);

bool pickle_is_text(const struct pickle_value *value, const char *text);
bool pickle_is_global(const struct pickle_value *value, const char *module, const char *name);
// Describes a value for messages: "a dict", "module.name", "a call of module.name".
#define PICKLE_SHOWN_SIZE 128
const char *pickle_shown(const struct pickle_value *value, char out[PICKLE_SHOWN_SIZE]);

// For pickle-read.c. Zeroed memory that lasts as long as the pickle; NULL with an error.
void *pickle_allocate(struct pickle *pickle, size_t size);
int pickle_list_add(struct pickle *pickle, struct pickle_list *list,
                    const struct pickle_value *items, size_t n);

#endif
