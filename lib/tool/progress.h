// Messages on stderr that share it with the line of progress. SPDX-License-Identifier: MIT
#ifndef DIT_PROGRESS_H
#define DIT_PROGRESS_H

#include <stdarg.h>

// Prints "PROGRAM: ..." as a line of its own, after clearing the line of progress.
void progress_message(const char *format, va_list ap);
// Prints "PROGRAM: SUBJECTTEXT" in the same way from within a signal handler.
void progress_message_in_handler(const char *subject, const char *text);

#endif
