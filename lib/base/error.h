// How library functions report errors. SPDX-License-Identifier: MIT
//
// A function that fails calls error_set, which keeps one message and status per thread, and returns
// -1 or NULL. Libraries neither print nor exit: programs do, by tool_fail (lib/tool/tool.h).
// Mistakes of the programmer are assertions instead.
#ifndef DIT_ERROR_H
#define DIT_ERROR_H

#include <stdarg.h>
#include <stddef.h>

// Exit statuses of every program; those from 64 on are sysexits(3)'s.
enum status {
    STATUS_OK = 0,
    STATUS_SKIPPED = 1,      // done, but some inputs were skipped
    STATUS_USAGE = 64,       // unknown option or value
    STATUS_DATA = 65,        // bad or truncated data
    STATUS_NO_INPUT = 66,    // an input cannot be opened or read
    STATUS_INTERNAL = 70,    // a bug in the program, or out of memory or descriptors
    STATUS_CANT_CREATE = 73, // an output cannot be created
    STATUS_IO = 74,          // an output cannot be written
    STATUS_STOPPED = 75,     // stopped by a signal after saving
};

// Sets this thread's message and status and returns -1, so that `return error_set(...)` reads well.
int error_set(enum status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// As error_set, with ": " and strerror(errno) appended. Running out of memory or of descriptors is
// no fault of the file in hand: the status is then STATUS_INTERNAL.
int error_set_errno(enum status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Puts "PREFIX: " before the current message and returns -1; for callers that know the file's name.
int error_prefix(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The last message set on this thread ("" if none), and its status.
const char *error_message(void);
enum status error_status(void);

#define ERROR_SHOWN_SIZE 80
// Makes text from a file fit for a message, where it may hold NULs or be long: cut to
// ERROR_SHOWN_SIZE - 1 bytes, and printable (lib/base/printable.h). Returns out. What else a
// message takes from files is made printable where it is printed.
char *error_shown(const char *text, size_t size, char out[ERROR_SHOWN_SIZE]);

// A copy of the error, to carry it from a worker thread to the one that reports it.
struct error {
    enum status status;
    char text[1024];
};
void error_save(struct error *error);         // this thread's message -> *error
int error_restore(const struct error *error); // *error -> this thread's message; returns -1

#endif
