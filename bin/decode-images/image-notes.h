// What decode-images says of its images, all of a kind in one line. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_NOTES_H
#define DIT_IMAGE_NOTES_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/images/image-list.h"

enum image_note { NOTE_DAMAGED, NOTE_ROTATED, NOTE_TRANSPARENT, NOTE_ENLARGED, NOTES };

// {0} at first.
struct image_notes {
    uint64_t n[NOTES];
    char *first[NOTES]; // a file's path
};

// Counts what holds for an image; --verbose names it. -1 with an error.
int image_notes_add(struct image_notes *notes, const char *path, const bool holds[NOTES]);
// Prints the counts and frees the paths.
void image_notes_print(struct image_notes *notes);

// Prints the classes that the list makes and their files, of many classes only the first.
void print_classes(const struct image_list *list);
// Names each class of which no image was written. images: (classes), those written of each.
void warn_of_empty_classes(const struct image_list *list, const uint64_t *images);

#endif
