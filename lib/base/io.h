// Files: reading whole, mapping, and output that appears whole or not at all.
// SPDX-License-Identifier: MIT
#ifndef DIT_IO_H
#define DIT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

// An output: standard output, or a file that gets its name only when it is complete.
// The file is written to a temporary name in the same folder; output_commit syncs and renames it,
// output_discard removes it. A signal that ends the process, or exit(), removes it too.
struct output;

// path NULL or "-": standard output. NULL with an error: STATUS_USAGE if that is a terminal,
// STATUS_CANT_CREATE if the file can't be made.
struct output *output_open(const char *path);
// All bytes or -1 (STATUS_IO). EPIPE on standard output ends the process as SIGPIPE does.
int output_write(struct output *output, const void *data, size_t size);
// Overwrites earlier bytes; only where output_can_rewrite.
int output_write_at(struct output *output, const void *data, size_t size, uint64_t offset);
bool output_is_file(const struct output *output); // a regular file, also as standard output
// A regular file that is not being appended to (>>).
bool output_can_rewrite(const struct output *output);
const char *output_name(const struct output *output); // the final path, or "standard output"
uint64_t output_offset(const struct output *output);  // bytes written so far
// Flush, fsync, close with checks, rename. Frees output also when it fails.
int output_commit(struct output *output);
void output_discard(struct output *output); // NULL is fine

// The whole file, or standard input for "-". *data is malloc'd, with a 0 byte after its end.
int file_read_all(const char *path, uint8_t **data, size_t *size, size_t size_max);

// A read-only mapping of a regular file. size 0: data is NULL.
struct mapping {
    const uint8_t *data;
    size_t size;
};
int file_map(const char *path, struct mapping *mapping);
void file_unmap(struct mapping *mapping);

// Data is neither read from a terminal nor written to one: -1 with an error (STATUS_USAGE) that
// begins with `name` if the descriptor is one.
int fd_refuse_terminal(int fd, const char *name);

// read() until size bytes, end of file or error; *got < size only at the end. -1 with errno set and
// no message.
int fd_read_full(int fd, void *data, size_t size, size_t *got);
int fd_pread_full(int fd, void *data, size_t size, uint64_t offset, size_t *got);

// Makes the folder and its parents. 0 if it is there already.
int folder_make(const char *path);
// Path of NAME within FOLDER; malloc'd.
char *path_join(const char *folder, const char *name);

#endif
