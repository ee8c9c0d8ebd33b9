// Reads a program's many input files in parallel, uses them in order, and skips those that fail.
// SPDX-License-Identifier: MIT
#ifndef DIT_INPUT_FILES_H
#define DIT_INPUT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

// The first member of a program's own struct for a file, which these functions get as `void *file`.
struct input_file {
    char *path;         // its name in messages; malloc'd, freed with the struct
    struct error error; // STATUS_OK until it fails
    bool ignored;       // set by `next` or `read`: it is not used, and no failure either
    const struct input_files *all;
};

struct input_files {
    size_t size;  // bytes of the program's struct
    size_t ahead; // files that may be read ahead, for each thread
    bool strict;  // the first file that fails ends the program
    bool partial; // other processes take other files, so that all of these may fail
    void *user;
    // Fills the next file, zeroed before: its path, and its error if it cannot be used. 1, or 0
    // after the last, or -1 with an error.
    int (*next)(void *user, void *file);
    // Reads it, on a worker thread. -1 with an error.
    int (*read)(void *file);
    // Uses what was read, in the order of `next`, and counts it for the progress. -1 with an error.
    int (*use)(void *user, void *file);
    void (*release)(void *file); // frees what `read` allocated
};

// Takes all files through next, read and use, and returns how many were used. A file that fails in
// `next` or `read` is reported and counted by tool_skip; any other error, running out of memory,
// and the failure of every file end the program by tool_fail.
uint64_t input_files_run(const struct input_files *all);

#endif
