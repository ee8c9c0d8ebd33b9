// The image files to decode, and their labels. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_LIST_H
#define DIT_IMAGE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/images/class-names.h"
#include "lib/base/part.h"

struct image_list_options {
    char **paths;        // NULL-terminated; none: read them from standard input
    bool nul;            // there they end with NUL, not with a newline
    bool no_labels;      // all labels are -1
    const char *classes; // a file of class names, or NULL
    struct part part;    // takes lines index, index + count, ...
};

struct image_list;

// Labels come from "PATH<TAB>NUMBER" lines if the first line is one; else they are the numbers of
// the parent folders' names, in the order of `classes`, or else in the order of their bytes: then
// all paths are read now, 4 bytes and the path each, and folders among them are left out.
// NULL with an error.
struct image_list *image_list_open(const struct image_list_options *options);
void image_list_close(struct image_list *list);

// The classes that the labels number, or NULL if they have no names.
const struct class_names *image_list_classes(const struct image_list *list);
size_t image_list_count(const struct image_list *list); // images to come; 0 = not known

struct image_entry {
    const char *path; // until the next call
    int64_t label;
    bool bad; // it has no label; the error is set
};
// 1 and the next one, 0 at the end, -1 with an error.
int image_list_next(struct image_list *list, struct image_entry *entry);

#endif
