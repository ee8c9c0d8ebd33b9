// Files: reading whole, mapping, and output that appears complete or not at all.
// SPDX-License-Identifier: MIT
#ifndef DIT_IO_H
#define DIT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

// Standard output, or a file. A file is written under a temporary name in the same folder, and
// output_commit gives it its own name and permissions, those of a file that it replaces; before
// that only its owner can read it. output_discard removes it, as do exit() and a signal that ends
// the process.
struct output;

// path NULL or "-" is standard output. NULL with an error: STATUS_USAGE if that is a terminal,
// STATUS_CANT_CREATE if the file can't be created.
struct output *output_open(const char *path);
// The same for a file in an open folder, which may be renamed meanwhile: creates the last part of
// `path` there. The whole path names the file in messages.
struct output *output_open_in(int folder, const char *path);
// Writes all bytes. -1 with an error (STATUS_IO); EPIPE ends the process as SIGPIPE does.
int output_write(struct output *output, const void *data, size_t size);
// Overwrites earlier bytes; only if output_can_rewrite.
int output_write_at(struct output *output, const void *data, size_t size, uint64_t offset);
// Whether it is a regular file, which standard output may be, too.
bool output_is_file(const struct output *output);
// Whether it is a regular file that is not opened for appending (>>).
bool output_can_rewrite(const struct output *output);
const char *output_name(const struct output *output); // the final path, or "standard output"
uint64_t output_offset(const struct output *output);  // bytes written so far
// Syncs, closes and renames the file. -1 with an error. Frees the output in either case.
int output_commit(struct output *output);
void output_discard(struct output *output); // NULL is fine

// In these, path "-" is standard input.
bool file_is_regular(const char *path);
// Whether two paths, of which none is "-", name one regular file or FIFO, or would name one file
// that does not exist yet.
bool file_is_same(const char *a, const char *b);
const char *file_name(const char *path); // for messages: the path, or "standard input"
// Reads the whole file into *data, which is malloc'd and has a 0 byte after its end. -1 with an
// error: STATUS_NO_INPUT, or STATUS_DATA if it holds more than size_max bytes.
int file_read_all(const char *path, uint8_t **data, size_t *size, size_t size_max);

// Files that must be regular are opened by these: a FIFO, on which open() would wait for ever, or a
// device is an error (STATUS_NO_INPUT). They don't know "-".
int file_open_regular(const char *path); // a descriptor for reading; -1 with an error
int file_read_regular(const char *path, uint8_t **data, size_t *size, size_t size_max);

// Reads a line, without the byte `end` at its end, into text[size], which ends with a NUL. Returns
// its length; `size` if it does not fit, with its rest still to be read; -1 at the end of the file
// or, with errno set and no message, if it can't be read.
long line_read(FILE *file, int end, char *text, size_t size);

// Refuses to read data from or write data to a terminal: -1 with an error (STATUS_USAGE) that
// begins with `name` if the descriptor is one.
int fd_refuse_terminal(int fd, const char *name);

// Reads `size` bytes; *got is less only at the end of the file. -1 with errno set and no message.
int fd_read_full(int fd, void *data, size_t size, size_t *got);
int fd_pread_full(int fd, void *data, size_t size, uint64_t offset, size_t *got);

// Makes the folder and its parents, unless they exist, so that they are on the disk. -1 with an
// error (STATUS_CANT_CREATE, or STATUS_IO if it can't be synced).
int folder_make(const char *path);
// FOLDER/NAME, malloc'd; NULL with an error.
char *path_join(const char *folder, const char *name);
// The last part of a path, without slashes after it; malloc'd. NULL with an error.
char *path_last_part(const char *path);

#endif
