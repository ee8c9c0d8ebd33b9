// Makes text from outside fit for a terminal. SPDX-License-Identifier: MIT
#ifndef DIT_PRINTABLE_H
#define DIT_PRINTABLE_H

#include <stddef.h>

// Replaces in place, by one '?' each, the characters that could drive a terminal or mislead who
// reads them, and the bytes that are not UTF-8. Such are control characters (also C1, U+0080 to
// U+009F), characters that turn the direction of writing or are not seen, and other ends of lines.
// Returns the new size, which is never larger; the text may hold NULs.
size_t make_printable(char *text, size_t size);

#endif
