// Writes zip archives of stored members, with zip64 sizes throughout. SPDX-License-Identifier: MIT
#ifndef DIT_ZIP_WRITE_H
#define DIT_ZIP_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

// Where the output can be rewritten, sizes and checksums are stored before each member's data; else
// after it, in data descriptors.
struct zip_writer;

// The caller keeps and commits the output. NULL with an error.
struct zip_writer *zip_new(struct output *output);
void zip_free(struct zip_writer *zip); // NULL is fine
// Aligns the data of members from here on to `align` bytes, a power of two up to 64, so that a
// mapped archive's arrays can be used in place. Default: 1.
void zip_align(struct zip_writer *zip, size_t align);

// A member is started, written in pieces and ended. -1 with an error.
int zip_start(struct zip_writer *zip, const char *name);
int zip_write(struct zip_writer *zip, const void *data, size_t size);
// Replaces the first bytes of the open member, which are `old`, by `data`. Only if the output can
// be rewritten (output_can_rewrite).
int zip_replace_start(struct zip_writer *zip, const void *old, const void *data, size_t size);
int zip_end(struct zip_writer *zip);

// Writes the directory, after the last member. Doesn't commit the output.
int zip_finish(struct zip_writer *zip);

#endif
