// How a library function says what went wrong. SPDX-License-Identifier: MIT
//
// A function that can fail for an operating reason returns -1 (or NULL) after it has called
// error_set; only bin/ prints the message and exits (tool_fail). One message per thread.
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
    STATUS_INTERNAL = 70,    // a defect of ours, or out of memory
    STATUS_CANT_CREATE = 73, // an output cannot be made
    STATUS_IO = 74,          // an output cannot be written
    STATUS_STOPPED = 75,     // stopped by a signal after saving
};

// Sets this thread's message and status and returns -1, so that `return error_set(...)` reads well.
int error_set(enum status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// As error_set, with ": " and strerror(errno) appended.
int error_set_errno(enum status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Puts "PREFIX: " before the message that is set; returns -1. For a caller that knows the file.
int error_prefix(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The message set last on this thread ("" if none) and its status.
const char *error_message(void);
enum status error_status(void);

// Text from a file, cut and made fit to be shown in a message; returns out.
#define ERROR_SHOWN_SIZE 80
char *error_shown(const char *text, size_t size, char out[ERROR_SHOWN_SIZE]);

// A message carried from a worker thread to the one that reports it.
struct error {
    enum status status;
    char text[1024];
};
void error_save(struct error *error);         // this thread's message -> *error
int error_restore(const struct error *error); // *error -> this thread's message; returns -1

#endif
