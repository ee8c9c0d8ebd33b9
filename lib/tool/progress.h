// What lib/tool/tool.c and lib/tool/progress.c share: the one line on stderr.
// SPDX-License-Identifier: MIT
#ifndef DIT_PROGRESS_H
#define DIT_PROGRESS_H

#include <stdarg.h>

// Prints "PROGRAM: ..." as a line of its own, in place of the progress line.
void progress_message(const char *format, va_list ap);

#endif
