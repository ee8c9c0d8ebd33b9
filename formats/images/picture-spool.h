// Keeps pictures in an unnamed temporary file, while the numbers of their classes are not known.
// SPDX-License-Identifier: MIT
#ifndef DIT_PICTURE_SPOOL_H
#define DIT_PICTURE_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct picture_spool {
    int fd;      // -1 if it is not open
    uint64_t at; // where the next picture is read
    char *path;  // of the last picture
};

struct spooled_picture {
    const char *path; // for messages; valid until the next call
    uint32_t class;
    uint8_t *data; // malloc'd, the reader's
    size_t size;
    bool bad; // it has no data, but an error: set when it is added, and again when it is read
};

// Opens it, in $TMPDIR. -1 with an error.
int picture_spool_open(struct picture_spool *spool);
// -1 with an error (73, 74, such as no space).
int picture_spool_add(struct picture_spool *spool, const struct spooled_picture *picture);
// Reads the pictures in their order. 1, 0 at the end, -1 with an error.
int picture_spool_next(struct picture_spool *spool, struct spooled_picture *picture);
void picture_spool_close(struct picture_spool *spool);

#endif
