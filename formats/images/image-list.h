// Lists the image files to decode, with their labels. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_LIST_H
#define DIT_IMAGE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/images/class-names.h"
#include "lib/base/part.h"

struct image_list_options {
    char **paths;   // NULL-terminated: files, folders and archives; if it is empty or "-" alone,
                    // standard input is read: a list of paths, or a tar
    bool nul;       // on standard input paths end with NUL, not with a newline
    bool no_labels; // all labels are -1
    const char *classes; // a file of class names, or NULL
    struct part part;    // only lines index, index + count, ... are listed; of an archive, each
                         // picture counts as a line
    size_t size_max;     // bytes of a picture in an archive, or 0 for any
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
//
// A path without a label whose name ends as an archive's (formats/containers/archive.h) is one, and
// its pictures are listed in its order (formats/images/image-archive.h). If the first picture of
// all is in an archive that gives it a number, all must have one, and labels are these numbers.
// Else an archive is read twice where the classes must be known first. Of a tar on standard input,
// the pictures are then kept in an unnamed temporary file.
struct image_list *image_list_open(const struct image_list_options *options);
void image_list_close(struct image_list *list);

// The names of the classes by label, or NULL if labels have no names.
const struct class_names *image_list_classes(const struct image_list *list);
size_t image_list_count(const struct image_list *list);      // images to come in all; 0 if unknown
uint64_t image_list_lines(const struct image_list *list);    // lines or operands read so far
uint64_t image_list_archives(const struct image_list *list); // archives opened so far
// Files of the class in the whole list, not only in the part; 0 if unknown.
size_t image_list_class_size(const struct image_list *list, size_t class);

struct image_entry {
    const char *path; // of a file; of an archive's picture, for messages. Valid until the next call
    int64_t label;
    bool bad;      // there is no label for it, or it cannot be read, and an error is set
    uint8_t *data; // of an archive's picture: malloc'd, the caller's. NULL for a file, and if it is
                   // bad
    size_t size;
};
// Gets the next image. 1, 0 at the end, -1 with an error.
int image_list_next(struct image_list *list, struct image_entry *entry);

#endif
