// Python's pickles as values: nothing is imported and nothing is called.
// SPDX-License-Identifier: MIT
#ifndef DIT_PICKLE_H
#define DIT_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// No more than these, so that values take at most 70 MiB of memory whatever the pickle says.
#define PICKLE_OPERATIONS_MAX ((size_t)1 << 20)

enum pickle_type {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT, // bytes that should be UTF-8; not terminated
    PICKLE_BYTES,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_SET,
    PICKLE_DICT,
    PICKLE_GLOBAL,     // the name of a class or function
    PICKLE_CALL,       // what a call, which was not made, would have given
    PICKLE_PERSISTENT, // an object outside the pickle
    PICKLE_INTEGER,    // one of more than 64 bits
    PICKLE_ESCAPED,    // text of protocol 0 with escapes in it
    PICKLE_MARK,       // private
};

// Containers are shared by reference, so values form a graph, perhaps with cycles.
struct pickle_value {
    enum pickle_type type;
    uint32_t size; // TEXT, BYTES, INTEGER: bytes; TUPLE: items
    union {
        bool truth;
        int64_t integer;
        double number;
        const char *text;                 // in the pickle's own bytes
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
    struct pickle_value state; // of BUILD; NONE without
    struct pickle_list items;  // keys and values that were set on it in turn
};

struct pickle_persistent {
    struct pickle_value id;
    const struct pickle_persistent *next;
};

struct pickle {
    struct pickle_value root;
    size_t end;                             // the offset after STOP
    const struct pickle_persistent *others; // all persistent ids
    struct pickle_block *blocks;            // private
};

// Reads the pickle (protocols 0 to 5) that begins at `start` of the bytes; they must outlive it.
// -1 with an error (65) that names the byte.
int pickle_read(struct pickle *pickle, const uint8_t *bytes, size_t start, size_t size);
void pickle_free(struct pickle *pickle);

bool pickle_is_text(const struct pickle_value *value, const char *text);
bool pickle_is_global(const struct pickle_value *value, const char *module, const char *name);
// What a value is, for messages: "a dict", "module.name", "a call of module.name".
#define PICKLE_SHOWN_SIZE 128
const char *pickle_shown(const struct pickle_value *value, char out[PICKLE_SHOWN_SIZE]);

// For the reader. Memory that lasts as long as the pickle, zeroed.
void *pickle_allocate(struct pickle *pickle, size_t size);
int pickle_list_add(struct pickle *pickle, struct pickle_list *list,
                    const struct pickle_value *items, size_t n);

#endif
