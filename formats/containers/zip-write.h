// Zip archives of stored members, with zip64 sizes throughout. SPDX-License-Identifier: MIT
#ifndef DIT_ZIP_WRITE_H
#define DIT_ZIP_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

// Sizes and checksums stand in front of the members where the output can be rewritten, elsewhere
// after them (data descriptors).
struct zip_writer;

// The output stays the caller's. NULL with an error.
struct zip_writer *zip_new(struct output *output);
void zip_free(struct zip_writer *zip); // NULL is fine
// Members from here on have data that starts at a multiple of this many bytes, a power of two up
// to 64, so that a mapped archive's arrays can be used where they lie. Default: 1.
void zip_align(struct zip_writer *zip, size_t align);

// A member: started, written in pieces, ended. -1 with an error.
int zip_start(struct zip_writer *zip, const char *name);
int zip_write(struct zip_writer *zip, const void *data, size_t size);
// Changes the first bytes of the open member from `old` to `data`. Only where output_can_rewrite.
int zip_replace_start(struct zip_writer *zip, const void *old, const void *data, size_t size);
int zip_end(struct zip_writer *zip);

// The directory. Doesn't commit the output.
int zip_finish(struct zip_writer *zip);

#endif
