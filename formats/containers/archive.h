// Walks through the files in tar and zip archives, also in archives within these.
// SPDX-License-Identifier: MIT
//
// Nothing is written anywhere: a file's name is only text. Folders, links and devices are passed
// over. Memory does not grow with an archive or what it claims, and an archive that expands beyond
// ARCHIVE_EXPANSION times its size, and ARCHIVE_EXPANSION_SPARE, is an error.
#ifndef DIT_ARCHIVE_H
#define DIT_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARCHIVE_DEPTH           2    // archives within each other
#define ARCHIVE_NAME_MAX        4096 // bytes of a file's name
#define ARCHIVE_HEAD            512  // bytes that tell whether standard input is an archive
#define ARCHIVE_EXPANSION       1000
#define ARCHIVE_EXPANSION_SPARE ((uint64_t)1 << 30)

struct archive_walk;

// A file of the archive; the texts are valid until the next call.
struct archive_file {
    const char *path; // for messages: the archives' names and its own, as A: B: NAME
    const char *name; // its own in the innermost archive: any text, also "../x" or "/x"
    const char *stem; // that archive's own name without folders and ending; "." is standard input
    bool sized;       // whether the archive states the size
    uint64_t size;
};

// The length of a name before the ending of an archive: .tar, .zip, .tgz, .tar.gz, .tar.bz2,
// .tar.xz or .tar.zst, in letters of either case. 0 if it has none of these.
size_t archive_name_stem(const char *name);
// Whether the first bytes of a file are those of a tar, which may be compressed, or of a zip
// archive.
bool archive_is_known(const uint8_t *head, size_t size);

// Opens the archive at `path`, whatever its name says: a regular file. Archives in it are opened
// up to `depth`, where 1 means none; deeper ones are files. NULL with an error (65, 66).
struct archive_walk *archive_walk_open(const char *path, size_t depth);
// The same for standard input, of which these first bytes have been read: a tar, as a zip archive
// can only be read from a file. `size` is ARCHIVE_HEAD at most.
struct archive_walk *archive_walk_open_input(const uint8_t *head, size_t size, size_t depth);
// Goes to the next file, in the archive's order. 1, 0 at the end, -1 with an error that names the
// archive.
int archive_walk_next(struct archive_walk *walk, struct archive_file *file);
// Reads the next bytes of the file, fewer than `size` only at its end. Their number; -1 with an
// error without a name, after which the next file may be read, unless *broken, which then says so.
ssize_t archive_walk_read(struct archive_walk *walk, void *to, size_t size, bool *broken);
void archive_walk_close(struct archive_walk *walk); // NULL is fine

#endif
