// Finds the members of a zip archive in memory, without copying. SPDX-License-Identifier: MIT
#ifndef DIT_ZIP_READ_H
#define DIT_ZIP_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zip_member {
    const char *name; // in the archive; not terminated
    size_t name_size;
    const uint8_t *data; // (packed): the content itself, or deflated
    size_t size, packed; // bytes of the content, and as they are stored
    bool deflated;
    uint32_t crc; // of the content
};

struct zip_directory {
    struct zip_member *members; // sorted by name
    size_t n;
};

// Reads the directory and the members' headers, not their data. The bytes must outlive the
// directory. -1 with an error (65) that names the byte: for members that are compressed (deflated
// ones are accepted if `deflated`), encrypted, named twice, overlapping, or not where the directory
// says.
int zip_read_directory(struct zip_directory *zip, const uint8_t *bytes, size_t size, bool deflated);
void zip_free_directory(struct zip_directory *zip);
// The member of this name; NULL if there is none.
const struct zip_member *zip_find(const struct zip_directory *zip, const char *name, size_t size);

#endif
