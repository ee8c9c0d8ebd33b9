// Progress on stderr, and messages that share it with that line. SPDX-License-Identifier: MIT
#ifndef DIT_PROGRESS_H
#define DIT_PROGRESS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

// The program's name, with which all lines begin, and whether progress is shown. Until then the
// name is that of the process, and nothing is shown.
void progress_setup(const char *program, bool shown);

// Progress on stderr: on a terminal one line, redrawn at most 10 times a second; elsewhere a line
// every 30 s; nothing unless it is shown. Safe to call from any thread.
void progress_start(const char *unit, uint64_t total); // unit: "images"; total: 0 if unknown
void progress_skip(uint64_t n); // done before the start: they count, but not for the rate
void progress_add(uint64_t n);
// Sets the text after the rate, such as "loss 0.153"; NULL for none.
void progress_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_finish(void);

// Prints "PROGRAM: ..." as a line of its own, after clearing the line of progress.
void progress_message(const char *format, va_list ap);
// Prints "PROGRAM: SUBJECTTEXT" in the same way from within a signal handler.
void progress_message_in_handler(const char *subject, const char *text);

#endif
