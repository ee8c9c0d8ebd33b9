// Files in memory, mapped read-only. SPDX-License-Identifier: MIT
//
// If a file becomes shorter while it is mapped, or its disk fails, reading it raises SIGBUS. A
// program finds out by file_mapped_at which file that was.
#ifndef DIT_MAPPING_H
#define DIT_MAPPING_H

#include <stddef.h>
#include <stdint.h>

struct mapping {
    const uint8_t *data; // NULL if the file is empty
    size_t size;
};
// -1 with an error (STATUS_NO_INPUT), also for what is not a regular file. It never waits.
int file_map(const char *path, struct mapping *mapping);
void file_unmap(struct mapping *mapping);
// The path of the file that is mapped at an address, with the address's offset in it; NULL if there
// is none. Safe in signal handlers.
const char *file_mapped_at(const void *address, size_t *offset);

#endif
