// Counts what holds for images and shows the classes of a list. SPDX-License-Identifier: MIT
#include "bin/decode-images/image-notes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/tool/tool.h"

static const char *const note_texts[NOTES] = {
    [NOTE_DAMAGED] = "damaged, and some pixels are wrong; --strict refuses such files",
    [NOTE_ROTATED] = "stored rotated, as EXIF says; --exif turns such images upright",
    [NOTE_TRANSPARENT] = "transparent, and shown opaque; --background puts a colour underneath",
    [NOTE_ENLARGED] = "smaller than the wanted size, and enlarged",
};

int image_notes_add(struct image_notes *notes, const char *path, const bool holds[NOTES])
{
    for (size_t i = 0; i < NOTES; i++) {
        if (!holds[i])
            continue;
        tool_detail("%s is %s", path, note_texts[i]);
        if (notes->n[i]++ == 0 && !(notes->first[i] = mem_strdup(path)))
            return -1;
    }
    return 0;
}

void image_notes_print(struct image_notes *notes)
{
    for (size_t i = 0; i < NOTES; i++) {
        const uint64_t n = notes->n[i];
        if (n > 0)
            (i == NOTE_DAMAGED ? tool_warn : tool_note)("%" PRIu64 " image%s %s (the first: %s)", n,
                                                        n == 1 ? " is" : "s are", note_texts[i],
                                                        notes->first[i]);
        free(notes->first[i]);
    }
}

void print_classes(const struct image_list *list)
{
    enum { SHOWN = 10 };
    const struct class_names *classes = image_list_classes(list);
    size_t files = 0;
    for (size_t i = 0; i < classes->n; i++)
        files += image_list_class_size(list, i);
    char text[SHOWN * (ERROR_SHOWN_SIZE + 24)] = "";
    size_t used = 0;
    for (size_t i = 0; i < classes->n && i < SHOWN; i++) {
        char name[ERROR_SHOWN_SIZE];
        error_shown(classes->names[i], strlen(classes->names[i]), name);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %zu", i ? ", " : ": ", name,
                                 image_list_class_size(list, i));
    }
    tool_note("%zu file%s, %zu class%s%s%s", files, files == 1 ? "" : "s", classes->n,
              classes->n == 1 ? "" : "es", text, classes->n > SHOWN ? ", ..." : "");
}

// A file beside the folders of the classes makes a class of its own, which may hold no image.
void warn_of_empty_classes(const struct image_list *list, const uint64_t *images)
{
    const struct class_names *classes = image_list_classes(list);
    for (size_t i = 0; i < classes->n; i++) {
        const size_t files = image_list_class_size(list, i);
        if (images[i] == 0)
            tool_warn("class %zu, \"%s\", is empty: no image came from its %zu file%s", i,
                      classes->names[i], files, files == 1 ? "" : "s");
    }
}
