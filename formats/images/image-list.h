// Lists the image files to decode, with their labels. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_LIST_H
#define DIT_IMAGE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/images/class-names.h"
#include "lib/base/part.h"

struct image_list_options {
    char **paths;   // NULL-terminated, files and folders; if empty, paths come from standard input
    bool nul;       // on standard input paths end with NUL, not with a newline
    bool no_labels; // all labels are -1
    const char *classes; // a file of class names, or NULL
    struct part part;    // only lines index, index + count, ... are listed
};

struct image_list;

// Folders among the given paths are walked: all files in them are listed, in the order of their
// names, but hidden ones. Folders in a list on standard input are left out. Lines may end with CR
// LF.
//
// If the first line is "PATH<TAB>NUMBER", all lines must be, and labels are these numbers. If it is
// "PATH<TAB>CLASS" and no file has that name, all lines must be, and they name the classes. Else a
// file's class is its parent folder's name. The label is the number of the class: in the order of
// `classes`, or, without it, in the order of all names' bytes. The latter reads all paths now and
// keeps them in memory. NULL with an error.
struct image_list *image_list_open(const struct image_list_options *options);
void image_list_close(struct image_list *list);

// The names of the classes by label, or NULL if labels have no names.
const struct class_names *image_list_classes(const struct image_list *list);
size_t image_list_count(const struct image_list *list);   // images to come in all; 0 if unknown
uint64_t image_list_lines(const struct image_list *list); // lines or operands read so far
// Files of the class in the whole list, not only in the part; 0 if unknown.
size_t image_list_class_size(const struct image_list *list, size_t class);

struct image_entry {
    const char *path; // valid until the next call
    int64_t label;
    bool bad; // there is no label for it, and an error is set
};
// Gets the next image. 1, 0 at the end, -1 with an error.
int image_list_next(struct image_list *list, struct image_entry *entry);

#endif
