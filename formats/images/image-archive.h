// Takes the pictures and their labels out of an archive. SPDX-License-Identifier: MIT
//
// A file is a picture by the ending of its name, or by its first bytes if the name has no ending.
// Others are passed over, but for those that hold labels: as in a webdataset, a.cls (a number) or
// a.json ({"label": a number, ...}) beside a.jpg, and in a zip archive dataset.json
// ({"labels": [[name, number], ...]}).
#ifndef DIT_IMAGE_ARCHIVE_H
#define DIT_IMAGE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image_archive;

struct archive_picture {
    const char *path;   // for messages: the archives' names and its own; valid until the next call
    const char *folder; // the name of its folder, or the stem of the archive that holds it
    size_t folder_length;
    bool numbered;  // whether the archive gives it a number,
    int64_t number; // ...this one
    uint8_t *data;  // malloc'd, the caller's; NULL if not asked for, or bad
    size_t size;
    bool bad; // it cannot be read, and an error without its path is set
};

// Opens the archive at `path`; or, if it is NULL, standard input, of which these bytes have been
// read (formats/containers/archive.h). Pictures of more than size_max bytes are bad. NULL with an
// error.
struct image_archive *image_archive_open(const char *path, const uint8_t *head, size_t head_size,
                                         size_t size_max);
// Gets the next picture, with its data if they are wanted. 1, 0 at the end, -1 with an error.
int image_archive_next(struct image_archive *archive, bool wanted, struct archive_picture *picture);
// Whether the next picture, which is read for this, has a number; false at the end. -1 with an
// error.
int image_archive_is_numbered(struct image_archive *archive);
void image_archive_close(struct image_archive *archive); // NULL is fine

#endif
