// Archives of NumPy arrays, .npz, of any size: read as streams. SPDX-License-Identifier: MIT
#ifndef DIT_ARRAYS_H
#define DIT_ARRAYS_H

#include "formats/containers/npy.h"
#include "formats/containers/zip-read.h"
#include "formats/containers/zip-write.h"
#include "lib/base/mapping.h"

struct arrays {
    const char *path; // the caller's
    struct mapping file;
    struct zip_directory zip;
};

// Maps a file that np.savez or np.savez_compressed has written. -1 with an error that names it: 66
// if it can't be read, else 65.
int arrays_open(struct arrays *arrays, const char *path);
void arrays_close(struct arrays *arrays);

// An array that is read from its first element to its last.
struct array {
    struct npy npy; // dtype, rank, shape, count; no data
    // Private:
    const struct arrays *arrays;
    const struct zip_member *member;
    struct z_stream_s *inflate; // of a deflated member
    size_t at;                  // bytes of the member that were read
    uint32_t crc;
};

// Whether the archive has an array of this name, without ".npy".
bool arrays_have(const struct arrays *arrays, const char *name);
// Opens an array. NULL with an error (65) if it is missing, or if its header and its size disagree.
struct array *array_open(const struct arrays *arrays, const char *name);
// The same for one of this type and shape, where a dimension that is 0 may have any size.
struct array *array_expect(const struct arrays *arrays, const char *name, enum dtype dtype,
                           const size_t *shape, size_t rank);
// Reads the next n elements, as they are stored. The member's checksum is compared after the last.
// -1 with an error.
int array_read(struct array *array, void *to, size_t n);
void array_close(struct array *array); // NULL is fine

// Starts a member for an array of this shape, whose data zip_write then takes, and zip_end ends.
int arrays_start(struct zip_writer *zip, const char *name, enum dtype dtype, const size_t *shape,
                 size_t rank);

#endif
