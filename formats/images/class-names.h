// Numbers the names of classes. SPDX-License-Identifier: MIT
#ifndef DIT_CLASS_NAMES_H
#define DIT_CLASS_NAMES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

// {0} is an empty list.
struct class_names {
    size_t n;
    char **names; // (n), by number; owned
    void *tree;   // private: the same, by name
};

void class_names_free(struct class_names *list);
// The number of the name, which is added if it is new. -1 with an error.
int64_t class_names_add(struct class_names *list, const char *name, size_t length);
// The number of the name; -1 without an error if it is not in the list.
int64_t class_names_find(const struct class_names *list, const char *name, size_t length);
// Renumbers the names in the order of their bytes. rank (n) gets the new number of each old one.
void class_names_sort(struct class_names *list, uint32_t *rank);
// Adds the names from a file, one a line, in its order. -1 with an error that names the file.
int class_names_read(struct class_names *list, const char *path);
// The names as a JSON list; malloc'd. In names that are not UTF-8, all bytes beyond ASCII become
// '?'. NULL with an error.
char *class_names_json(const struct class_names *list);
// Reads such a list, the metadata `classes`, into *names, which is NULL if the text is NULL or no
// list. -1 with an error (65; 70 without memory) for one that takes far more memory than bytes.
int class_names_parse(const char *text, json_t **names);

#endif
