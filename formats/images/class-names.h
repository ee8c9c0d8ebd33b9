// The names of classes and their numbers. SPDX-License-Identifier: MIT
#ifndef DIT_CLASS_NAMES_H
#define DIT_CLASS_NAMES_H

#include <stddef.h>
#include <stdint.h>

struct class_names {
    size_t n;
    char **names;                // (n): by number; owned
    uint32_t *slots, slots_mask; // private: a hash table of numbers + 1
};

// {0} is an empty list.
void class_names_free(struct class_names *list);
// The number of the name, which is added if it is new; -1 with an error.
int64_t class_names_add(struct class_names *list, const char *name, size_t length);
// The number, or -1 (no message).
int64_t class_names_find(const struct class_names *list, const char *name, size_t length);
// Numbers anew in the order of the names' bytes; rank (n): the new number of each old one.
int class_names_sort(struct class_names *list, uint32_t *rank);
// Reads a file of one name a line, numbered in its order. -1 with an error.
int class_names_read(struct class_names *list, const char *path);
// As a JSON list; malloc'd. NULL with an error. Bytes that are not UTF-8 become '?'.
char *class_names_json(const struct class_names *list);

#endif
